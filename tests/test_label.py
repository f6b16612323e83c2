"""What to label next, wrong labels, and what comes back: `src/label.py` in a finished run of the drawn photographs."""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import ROOT, scripts_run
from json_schema import faults
from PIL import Image

import label
from thaw.core import locks
from thaw.core.errors import ThawError
from thaw.labelling import candidates, feature_cache, hand_over, label_studio, returned, state, taking
from thaw.labelling.feature_cache import Entry, FeatureCache
from thaw.labelling.hand_over import Item
from thaw.labelling.known import Known
from thaw.labelling.returned import Returned
from thaw.splitting.thumbnails import THUMBNAIL

SCHEMA = json.loads((ROOT / "tests/data/label_studio/tasks.schema.json").read_text())
TABLE = Path("label_next/photographs.csv")


def draw(path: Path, seed: int, kind: str = "stripes") -> Path:
    """Draw a photograph as those of the run are, but another one."""
    generator = np.random.default_rng(1000 + seed)
    y, x = np.mgrid[:70, :80]
    angle, period = generator.uniform(0, 2 * np.pi), generator.uniform(6, 12)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    if kind == "blobs":
        wave = np.sin(np.pi * x / period + angle) * np.sin(np.pi * y / period + angle)
    colour, noise = generator.uniform(0.3, 1, 3), generator.normal(0, 12, (70, 80, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((127 + 60 * wave[..., None] * colour + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Of features and converted models, for all tests of this module."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(finished_once, monkeypatch, tmp_path, cache):
    """The finished run, with ten photographs without a label, a file that is none, and a damaged one."""
    monkeypatch.chdir(finished_once.path)
    params = Path("params.yaml").read_bytes()
    for number in range(10):
        draw(Path(f"new/{number}.png"), number, "blobs" if number % 2 else "stripes")
    Path("new/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    Path("new/notes.txt").write_text("notes")
    yield finished_once
    Path("params.yaml").write_bytes(params)
    for folder in ("new", "labelled", "label_next", "label_check"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run(project, monkeypatch, capsys, cache):
    """Run `src/label.py` with arguments, and return what it printed."""

    def call(command: str, *arguments: object) -> str:
        options = ["--cache", str(cache)] if command == "next" else []
        monkeypatch.setattr(sys, "argv", ["label.py", command, *map(str, arguments), *options])
        capsys.readouterr()
        label.main()
        return "".join(capsys.readouterr())

    return call


def refusal(run, *arguments: object) -> str:
    with pytest.raises(ThawError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def fill(path: Path, label_of) -> None:
    """Write labels into a table, as a person does it in a spreadsheet."""
    table = rows(path)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(row | {"label": label_of(row) or ""} for row in table)


def truth(row: dict[str, str]) -> str:
    return "blobs" if int(Path(row["path"]).stem) % 2 else "stripes"


def contents(*folders: str) -> dict[str, bytes]:
    files = (path for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in sorted(files)}


# What to label next


def test_next_writes_a_sheet_a_table_and_tasks_and_says_what_it_left_out(run):
    shutil.copyfile("data/raw/" + pl.read_csv("data/raw/images.csv")["path"][0], "new/known.png")
    Image.open("new/0.png").save("new/again.jpg", quality=80)
    said = run("next", "new", "--count", 4)
    assert "12 photographs, 11 of them new to the network; 1 are labelled already, 0 are near-duplicates" in said
    assert "1 of others: 10 are left" in said
    assert "1 could not be read, such as new/broken.jpg: damaged" in said
    assert "1 left out of folders" in said
    table = rows(TABLE)
    assert [row["rank"] for row in table] == ["1", "2", "3", "4"]
    assert all(Path(row["path"]).is_absolute() and not row["label"] for row in table)
    assert {row["predicted"] for row in table} <= {"blobs", "stripes"}
    assert all(0.5 <= float(row["probability"]) <= 1 and "by its features" in row["reason"] for row in table)
    for row in table:
        assert row["sha256"] == hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest()
    with Image.open("label_next/sheet.jpg") as sheet:
        assert sheet.width > 4 * 144
    tasks = json.loads(Path("label_next/label_studio_tasks.json").read_text())
    assert not list(faults(tasks, SCHEMA))
    assert tasks[0]["predictions"][0]["result"][0]["value"]["choices"] == [table[0]["predicted"]]


def test_a_name_that_no_table_can_hold_is_counted(run):
    Path("new/0.png").rename(os.fsdecode(b"new/\xff.png"))
    said = run("next", "new", "--count", 2)
    assert "2 could not be read" in said and "9 are left" in said


def test_features_are_computed_once_and_are_those_of_the_run(run, cache, monkeypatch):
    run("next", "new", "--count", 2)
    Path("new/0.png").rename("new/renamed.png")
    assert ", 0 of them new to the network" in run("next", "new", "--count", 2)
    monkeypatch.setattr(FeatureCache, "get", lambda *_: {})
    raw = pl.read_csv("data/raw/images.csv").sort("image_id")
    paths = ["data/raw/" + path for path in raw["path"]]
    from thaw.core import params

    network, _ = label.frozen_network.open_network(
        params.load(Path("params.yaml")), label.BACKBONE, label.ARTIFACTS.features, cache / "other"
    )
    kept = {}
    other = FeatureCache(cache / "other", "0" * 64)
    monkeypatch.setattr(other, "add", kept.update)
    candidates.read(map(Path, paths), network, other)
    known = label.known_labels.read(label.ARTIFACTS)
    for sha256, features in zip(known.hashes, known.features, strict=True):
        assert np.array_equal(kept[sha256].features, features)


def test_the_same_choice_gives_the_same_bytes(run):
    run("next", "new", "--count", 5)
    once = contents("label_next")
    run("next", "new", "--count", 5)
    assert contents("label_next") == once


def test_without_a_run_the_choice_is_spread(run):
    said = run("next", "new", "--count", 3, "--from-scratch")
    assert "typical of the others" in said
    assert all(row["predicted"] == "" for row in rows(TABLE))
    tasks = json.loads(Path("label_next/label_studio_tasks.json").read_text())
    assert not list(faults(tasks, SCHEMA)) and "predictions" not in tasks[0]


def test_without_a_run_and_without_saying_so_is_refused(run, tmp_path, monkeypatch):
    shutil.copyfile("params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    assert "--from-scratch needs only `dvc repro backbone`" in refusal(run, "next", "new")
    assert "backbone is missing: run `dvc repro backbone`" in refusal(run, "next", "new", "--from-scratch")


def test_a_folder_without_photographs_and_one_of_labelled_ones_are_refused(run):
    Path("new/empty").mkdir()
    assert "no photograph that can be read" in refusal(run, "next", "new/empty")
    assert re.search(r"nothing to label: all \d+ photographs are labelled", refusal(run, "next", "data/raw/images"))
    assert not Path("label_next").exists()


def test_labels_of_a_person_and_other_files_are_not_overwritten(run):
    run("next", "new", "--count", 2)
    fill(TABLE, truth)
    before = contents("label_next")
    assert "has labels that were not taken" in refusal(run, "next", "new")
    assert contents("label_next") == before
    run("take", TABLE)
    run("next", "new", "--count", 2)
    Path("label_next/mine.txt").write_text("mine")
    assert "holds mine.txt" in refusal(run, "next", "new")
    assert "is a file" in refusal(run, "next", "new", "--output", "params.yaml")


def test_features_of_another_setting_than_the_run_has_are_refused(run, project):
    project.set(image__size=64)
    assert "run `dvc repro`" in refusal(run, "next", "new")


# What comes back


def test_what_comes_back_is_data_and_a_second_time_changes_nothing(run):
    run("next", "new", "--count", 4)
    fill(TABLE, lambda row: truth(row) if row["rank"] != "4" else None)
    said = run("take", TABLE)
    assert "3 new; 1 without a label" in said
    table = pl.read_csv("labelled/photographs.csv")
    assert table.columns == ["path", "label", "sha256"] and len(table) == 3
    assert all(path.startswith("../new/") for path in table["path"])
    assert "added: labelled/photographs.csv " in Path("params.yaml").read_text()
    before = contents("labelled") | {"params": Path("params.yaml").read_bytes()}
    assert "0 new; 3 known before" in run("take", TABLE)
    assert contents("labelled") | {"params": Path("params.yaml").read_bytes()} == before
    fill(TABLE, lambda row: {"4": "blobs"}.get(row["rank"]))
    run("take", TABLE)
    assert (Path("labelled/photographs.csv").read_bytes()).startswith(before["labelled/photographs.csv"])
    assert "9 are labelled" not in run("next", "new", "--count", 4, "--output", "label_next/../label_check")


def test_contradictions_are_listed_and_nothing_is_overwritten(run):
    run("next", "new", "--count", 4)
    labels = {"1": "zebra", "2": "blob", "3": "stripes", "4": "blobs"}
    fill(TABLE, lambda row: labels[row["rank"]])
    third = rows(TABLE)[2]["path"]
    draw(Path(third), 77)
    said = run("take", TABLE)
    assert "1 new; 3 not taken" in said
    assert "no class is called 'zebra'" in said and "download.new_classes admits it" in said
    assert "did you mean blobs?" in said and "is another one now than was handed over" in said
    assert [row["label"] for row in rows(Path("labelled/conflicts.csv"))] == ["zebra", "blob", "stripes"]
    before = Path("labelled/photographs.csv").read_bytes()
    fill(TABLE, lambda row: {"4": "stripes"}.get(row["rank"]))
    with pytest.raises(SystemExit):
        run("take", TABLE)
    assert "is labelled 'blobs' already" in Path("labelled/conflicts.csv").read_text()
    assert Path("labelled/photographs.csv").read_bytes() == before


def test_a_table_of_other_photographs_is_left_alone_and_an_interrupted_take_goes_on(run):
    run("next", "new", "--count", 2)
    fill(TABLE, truth)
    run("take", TABLE)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("added: labelled/photographs.csv", "added: null"))
    assert "params.yaml has download.added: labelled/photographs.csv now" in run("take", TABLE)
    Path("params.yaml").write_text(text.replace("added: labelled/photographs.csv", "added: null"))
    taking.append(Path("labelled/photographs.csv"), taking.ADDED_COLUMNS, [("a.jpg", "zebra", "0" * 64)])
    assert "move the table away" in refusal(run, "take", TABLE)
    assert "0 are labelled already" in run("next", "new", "--count", 2, "--output", "label_check")


def test_a_new_class_is_taken_once_the_parameter_admits_it(run, project):
    run("next", "new", "--count", 2)
    fill(TABLE, lambda row: "zebra")
    with pytest.raises(SystemExit):
        run("take", TABLE)
    assert not Path("labelled/photographs.csv").exists()
    project.set(download__new_classes=["zebra"])
    assert "2 new" in run("take", TABLE)


def test_an_export_of_another_project_is_refused(run, tmp_path):
    export = tmp_path / "export.json"
    task = {"id": 1, "data": {"image": "/data/upload/3/0a1b2c3d-x.jpg"}, "annotations": []}
    task["annotations"] = [{"result": [{"type": "choices", "value": {"choices": ["stripes"]}}], "was_cancelled": False}]
    export.write_text(json.dumps([task]))
    assert "names no photograph that is here" in refusal(run, "take", export)
    export.write_text(json.dumps({"images": [], "annotations": []}))
    assert "is no export of Label Studio's" in refusal(run, "take", export)
    export.write_text("[")
    assert "is not JSON" in refusal(run, "take", export)
    assert "no such file" in refusal(run, "take", "gone.json")
    table = tmp_path / "table.csv"
    table.write_text("path,kind\na.jpg,cat\n")
    assert "no column 'label'" in refusal(run, "take", table)
    assert not Path("labelled").exists()


def test_photographs_that_were_moved_are_found_below_a_folder(run, tmp_path):
    run("next", "new", "--count", 3)
    fill(TABLE, truth)
    shutil.copytree("new", tmp_path / "moved/deep")
    shutil.rmtree("new")
    assert "names no photograph that is here" in refusal(run, "take", TABLE)
    assert "3 new" in run("take", TABLE, "--photographs", tmp_path / "moved")
    assert all(path.startswith(str(tmp_path)) for path in pl.read_csv("labelled/photographs.csv")["path"])


def test_folders_of_classes_come_back(run, tmp_path):
    for number in range(4):
        target = tmp_path / ("stripes" if number % 2 == 0 else "blobs") / f"{number}.png"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(f"new/{number}.png", target)
    (tmp_path / "unlabelled").mkdir()
    shutil.copyfile("new/5.png", tmp_path / "unlabelled/5.png")
    assert "4 new" in run("take", tmp_path)
    assert sorted(pl.read_csv("labelled/photographs.csv")["label"]) == ["blobs", "blobs", "stripes", "stripes"]


def test_without_a_run_what_comes_back_is_a_table_to_begin_with(run):
    run("next", "new", "--count", 6, "--from-scratch")
    fill(TABLE, lambda row: "odd" if truth(row) == "blobs" else "even")
    said = run("take", TABLE, "--from-scratch")
    assert "6 new" in said and "make repro PHOTOS=labelled/photographs.csv" in said
    assert "added: null" in Path("params.yaml").read_text()


def test_without_one_label_nothing_is_named_to_begin_with(run):
    run("next", "new", "--count", 2, "--from-scratch")
    said = run("take", TABLE, "--from-scratch")
    assert "2 without a label" in said and "next, " not in said and not Path("labelled/photographs.csv").exists()


def test_a_list_of_conflicts_of_a_persons_own_is_neither_replaced_nor_removed(run):
    run("next", "new", "--count", 1)
    fill(TABLE, truth)
    own = Path("labelled/conflicts.csv")
    own.parent.mkdir()
    own.write_text("mine\n1\n")
    assert "is no list of conflicts of an earlier `take`" in refusal(run, "take", TABLE)
    assert contents("labelled") == {str(own): b"mine\n1\n"}
    own.write_bytes(b"\xef\xbb\xbfplace;path;label;reason\nline 2;caf\xe9.jpg;cat;why\n")  # as a spreadsheet saves it
    assert "1 new" in run("take", TABLE) and not own.exists()


# Wrong labels


@pytest.fixture
def wrong(project):
    """The id of a photograph of blobs that the run calls stripes."""
    tables = [Path(name) for name in ("data/raw/images.csv", "data/split.csv", "data/predictions/predictions.csv")]
    before = {path: path.read_bytes() for path in tables}
    image_id = pl.read_csv(tables[1]).filter(label="blobs", split="train")["image_id"][0]
    for path in tables:
        is_it = pl.col("image_id") == image_id
        table = pl.read_csv(path, infer_schema=False)
        table = table.with_columns(label=pl.when(is_it).then(pl.lit("stripes")).otherwise("label"))
        if "self_confidence" in table.columns:
            table = table.with_columns(self_confidence=pl.when(is_it).then(pl.lit("0.01")).otherwise("self_confidence"))
        path.unlink()  # it may be a link into DVC's cache
        table.write_csv(path)
    yield image_id
    for path, content in before.items():
        path.write_bytes(content)


def test_a_wrong_label_is_shown_corrected_and_recorded(run, wrong):
    said = run("check", "--count", 5)
    assert "the likeliest wrong labels" in said
    table = rows(Path("label_check/photographs.csv"))
    assert [table[0][key] for key in ("image_id", "given", "predicted")] == [wrong, "stripes", "blobs"]
    assert all(row["given"] != row["predicted"] for row in table)
    tasks = json.loads(Path("label_check/label_studio_tasks.json").read_text())
    assert not list(faults(tasks, SCHEMA)) and tasks[0]["data"]["given"] == "stripes"
    fill(Path("label_check/photographs.csv"), lambda row: "blobs" if row["image_id"] == wrong else row["given"])
    assert "0 new; 1 labels corrected" in run("take", "label_check/photographs.csv")
    assert "corrections: labelled/corrections.csv" in Path("params.yaml").read_text()
    changes = rows(Path("labelled/corrections.csv"))
    assert [(row["image_id"], row["old"], row["new"], row["from"]) for row in changes if row["old"] != row["new"]] == [
        (wrong, "stripes", "blobs", "photographs.csv")
    ]
    assert len(changes) == len(table)
    before = contents("labelled")
    run("take", "label_check/photographs.csv")
    assert contents("labelled") == before
    assert f"{len(table)} were looked at before" in run("check", "--count", 5)


def test_a_confirmation_that_was_not_taken_is_not_overwritten(run, wrong):
    run("check", "--count", 1)
    fill(Path("label_check/photographs.csv"), lambda row: row["given"])
    assert "has labels that were not taken" in refusal(run, "check", "--count", 1)
    assert "1 confirmed" in run("take", "label_check/photographs.csv")
    assert "1 were looked at before" in run("check", "--count", 1)


def test_a_label_that_is_more_likely_right_than_wrong_is_not_shown(run, wrong):
    path = Path("data/predictions/predictions.csv")
    path.write_text(path.read_text().replace(",0.01", ",0.51"))
    assert "no label of" in run("check")


def test_a_correction_counts_where_the_photographs_began_without_a_run(run, wrong, project):
    Path("labelled").mkdir()
    Path("labelled/photographs.csv").write_text("path,label\n../new/0.png,stripes\n")
    project.set(download__source="table", download__table__path="labelled/photographs.csv")
    run("check", "--count", 1)
    fill(Path("label_check/photographs.csv"), lambda row: "blobs")
    said = run("take", "label_check/photographs.csv")
    assert "download.corrections: labelled/corrections.csv now" in said and "download.added" not in said
    assert "next, `dvc repro`" in said


def test_nothing_is_shown_where_no_label_is_contradicted(run):
    assert "is contradicted by the other photographs" in run("check")
    assert not Path("label_check").exists()


# One round: this changes the run, so it comes last


def test_a_round_by_commands_alone_runs_what_it_must(run, project):
    run("next", "new", "--count", 6)
    fill(TABLE, truth)
    run("take", TABLE)
    split = dict(pl.read_csv("data/split.csv").select("image_id", "split").iter_rows())
    result = project.dvc("repro", "extract_features")
    assert result.returncode == 0, result.stdout + result.stderr
    assert scripts_run(result.stdout) == ["inputs", "download", "split", "augment", "extract_features"]
    assert "6 of them added by download.added" in result.stdout
    after = dict(pl.read_csv("data/split.csv").select("image_id", "split").iter_rows())
    assert {after[new] for new in after.keys() - split.keys()} == {"train"}
    assert all(after[image_id] == name for image_id, name in split.items())
    assert "6 are labelled already" in run("next", "new", "--count", 2)
    status = json.loads(project.dvc("status", "--json").stdout)
    assert "backbone" not in status and "download" not in status
    fill(TABLE, truth)
    run("take", TABLE)
    again = project.dvc("repro", "download")
    assert scripts_run(again.stdout) == ["download"] and "8 of them added by download.added" in again.stdout


# The parts


def test_a_photograph_that_is_labelled_in_two_ways_is_a_conflict(tmp_path):
    path = draw(tmp_path / "a.png", 1)
    given = [Returned("1", path, "cat"), Returned("2", path, "dog"), Returned("3", path, "cat")]
    taken = taking.decide(given, taking.Labelled(("cat", "dog"), {}, {}), "x")
    assert not taken.added and len(taken.conflicts) == 3
    assert "several labels in this hand-over: cat, dog" in taken.conflicts[0][-1]


def test_a_label_of_the_run_is_only_corrected_where_it_was_in_doubt(tmp_path):
    path = draw(tmp_path / "a.png", 1)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    labelled = taking.Labelled(("cat", "dog"), {sha256: {"id-1": "cat"}}, {})
    assert len(taking.decide([Returned("1", path, "dog")], labelled, "x").conflicts) == 1
    in_doubt = Returned("1", path, "dog", sha256, "id-1")
    assert taking.decide([in_doubt], labelled, "x").corrected == [("id-1", sha256, "cat", "dog")]
    gone = Returned("1", None, "dog", sha256, "id-1", f"{returned.NOT_FOUND}: a.png")
    assert taking.decide([gone], labelled, "x").corrected == [("id-1", sha256, "cat", "dog")]


def test_who_judges_a_label_first_is_not_overruled_by_a_second_hand_over(tmp_path):
    path = draw(tmp_path / "a.png", 1)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    labelled = taking.Labelled(("cat", "dog", "owl"), {sha256: {"id-1": "dog"}}, {}, {"id-1"})
    taken = taking.decide([Returned("1", path, "owl", sha256, "id-1")], labelled, "x")
    assert not taken.corrected and taken.conflicts[0][-1] == "is labelled 'dog' already, as a person has judged"
    assert taking.decide([Returned("1", path, "dog", sha256, "id-1")], labelled, "x").same == 1


def test_a_photograph_that_is_in_the_run_twice_is_corrected_where_it_was_wrong(tmp_path):
    path = draw(tmp_path / "a.png", 1)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    labelled = taking.Labelled(("cat", "dog"), {sha256: {"id-1": "dog", "id-2": "cat"}}, {})
    given = [Returned(image_id, path, "cat", sha256, image_id) for image_id in ("id-1", "id-2")]
    taken = taking.decide(given, labelled, "x")
    assert taken.corrected == [("id-1", sha256, "dog", "cat")]
    assert taken.confirmed == [("id-2", sha256, "cat", "cat")] and not taken.same
    (conflict,) = taking.decide([Returned("1", path, "cat")], labelled, "x").conflicts
    assert conflict[-1] == "is labelled 'cat' and 'dog' already"


def test_two_labels_of_a_photograph_of_the_run_whose_file_is_elsewhere_are_a_conflict():
    labelled = taking.Labelled(None, {"0" * 64: {"id-1": "dog"}}, {})
    given = Returned("1", None, "", "0" * 64, "id-1", f"{returned.SEVERAL}: cat, dog")
    taken = taking.decide([given], labelled, "x")
    assert not taken.corrected and taken.conflicts[0][-1] == "several labels: cat, dog"


def test_a_file_whose_name_no_table_can_hold_is_a_conflict(tmp_path):
    path = draw(tmp_path / "a.png", 1).rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    taken = taking.decide([Returned("1", path, "cat")], taking.Labelled(None, {}, {}), "x")
    assert not taken.added and "its name is not UTF-8" in taken.conflicts[0][-1]


def test_a_judgement_of_an_earlier_file_does_not_count_for_the_one_that_has_its_name_now(tmp_path):
    row = {"image_id": "x-1", "path": "images/x.png", "label": "dog", "sha256": "b" * 64}
    known = Known(("cat", "dog"), pl.DataFrame([row]))
    table = tmp_path / "corrections.csv"
    for sha256, judged, label_now in (("a" * 64, frozenset(), "dog"), ("b" * 64, {"x-1"}, "cat")):
        table.write_text(f"image_id,sha256,old,new,from\nx-1,{sha256},dog,cat,t\n")
        found = state.read(known, known.classes, None, table)
        assert found.judged == judged and found.images["b" * 64]["x-1"] == label_now


def test_the_table_of_what_came_back_is_read_by_the_rules_of_the_pipeline(tmp_path):
    draw(tmp_path / "a.png", 1), draw(tmp_path / "b.png", 2)
    digest = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a.png", "b.png")}
    table = tmp_path / "t.csv"
    table.write_text(f"Path,Label,sha256\na.png,1.0,{digest['a.png'].upper()}\nb.png,2.0,{digest['b.png'][:8]}\n")
    assert taking.read_added(table, ("1", "2")) == {digest["a.png"]: ("a.png", "1"), digest["b.png"]: ("b.png", "2")}
    for classes in (("1.0", "2.0"), ()):  # without any yet, what is written is what came back
        assert taking.read_added(table, classes)[digest["a.png"]] == ("a.png", "1.0")
    table.write_text(f"path,label,sha256,split\na.png,cat,{digest['a.png']},test\n")  # it is the source of the run
    assert taking.read_added(table) == {digest["a.png"]: ("a.png", "cat")}


def test_a_second_take_waits_for_the_first_and_both_labels_are_kept(project):
    for number in (0, 1):
        draw(Path(f"new/taken{number}.png"), 20 + number)  # new to the run, whatever other tests have added
        Path(f"new/{number}.csv").write_text(f"path,label\ntaken{number}.png,{('stripes', 'blobs')[number]}\n")
    command = [sys.executable, "src/label.py", "take"]
    with locks.exclusive(Path("src/label.py")):
        both = [
            subprocess.Popen(
                [*command, f"new/{number}.csv"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for number in (0, 1)
        ]
        assert [process.stdout.readline() for process in both] == ["label: waiting for another `take`\n"] * 2
        assert not Path("labelled").exists()
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert {row["label"] for row in rows(Path("labelled/photographs.csv"))} == {"stripes", "blobs"}


def test_rows_are_appended_to_a_table_of_a_persons_own(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("label,path,meta_place,sha256\ncat,a.jpg,garden,")
    taking.append(table, taking.ADDED_COLUMNS, [("b, c.jpg", "dog", "12"), ("d\re.jpg", "cat", "34")])
    added = b'dog,"b, c.jpg",,12\n"cat","d\re.jpg","","34"\n'
    assert table.read_bytes() == b"label,path,meta_place,sha256\ncat,a.jpg,garden,\n" + added
    table.write_text("a,b\n1,2\n")
    with pytest.raises(ThawError, match="has no column 'path'"):
        taking.append(table, taking.ADDED_COLUMNS, [("b.jpg", "dog", "12")])
    with pytest.raises(ThawError, match="is no CSV"):
        taking.append(tmp_path / "t.parquet", taking.ADDED_COLUMNS, [("b.jpg", "dog", "12")])
    table.write_text("path,,,label,sha256\na.jpg,,,cat,11\n")
    with pytest.raises(ThawError, match="has a column without a name"):
        taking.append(table, taking.ADDED_COLUMNS, [("b.jpg", "dog", "12")])


def test_a_table_that_is_a_link_stays_one_and_keeps_its_permissions(tmp_path):
    shared, link = tmp_path / "team/t.csv", tmp_path / "t.csv"
    shared.parent.mkdir()
    shared.write_text("path,label,sha256\na.jpg,cat,11\n")
    shared.chmod(0o664)
    link.symlink_to(shared)
    taking.append(link, taking.ADDED_COLUMNS, [("b.jpg", "dog", "12")])
    assert link.is_symlink() and shared.read_text() == "path,label,sha256\na.jpg,cat,11\nb.jpg,dog,12\n"
    assert shared.stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize(
    "before", ["path;label;sha256\r\n", "\ufeffsep=;\npath;label;sha256\n", "path\tlabel\tsha256\n"]
)
def test_rows_are_appended_as_a_spreadsheet_has_saved_the_others(before, tmp_path):
    table = tmp_path / "t.csv"
    one, two = "1" * 64, "2" * 64
    table.write_text(before + f"a.jpg;cat;{one}\n".replace(";", "\t" if "\t" in before else ";"), newline="")
    taking.append(table, taking.ADDED_COLUMNS, [("b, c.jpg", "dog", two)])
    assert taking.read_added(table) == {one: ("a.jpg", "cat"), two: ("b, c.jpg", "dog")}


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (lambda text: text.replace(",", ";").encode("utf-8-sig"), "labels that were not taken, such as 'cat'"),
        (lambda text: text.encode("utf-16"), "is UTF-16"),
        (lambda text: text.replace("label", "Label").encode(), "has no column 'label' any more"),
    ],
)
def test_labels_are_not_lost_however_a_spreadsheet_has_saved_them(saved, said, tmp_path):
    item = Item(draw(tmp_path / "a.png", 1), "0" * 64, 0.5, "why")
    hand_over.write(tmp_path / "out", [item], ["cat", "dog"])
    table = tmp_path / "out" / hand_over.TABLE
    table.write_bytes(saved(table.read_text().replace("a.png,,", "a.png,cat,")))
    with pytest.raises(ThawError, match=said):
        hand_over.check_replaceable(tmp_path / "out", (), ())


def test_what_lies_beside_the_folders_of_classes_is_counted(tmp_path):
    draw(tmp_path / "cat/1.png", 1)
    draw(tmp_path / "2.png", 2)
    draw(tmp_path / "unlabelled/3.png", 3)
    (tmp_path / "cat/notes.txt").write_text("notes")
    (tmp_path / ".DS_Store").write_text("")
    taken = taking.decide(returned.read(str(tmp_path), None, None), taking.Labelled(None, {}, {}), "x")
    assert [path.name for path, *_ in taken.added] == ["1.png"] and taken.unlabelled == 2
    assert [(place, reason) for place, *_, reason in taken.conflicts] == [
        (str(tmp_path / "cat/notes.txt"), "not an image by its content")
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("long.csv", f"path,label\n{'a' * 5000},cat\n"),
        (
            "address.json",
            '[{"data": {"image": "http://[x"}, "annotations": [{"result": [{"value": {"choices": ["cat"]}}]}]}]',
        ),
        ("long.json", json.dumps([{"image": f"/data/local-files/?d={'a' * 5000}", "choice": "cat"}])),
        ("cut.csv", 'path,label\na.png,"{""choices"": [1,"\n'),
    ],
)
def test_a_name_or_label_that_cannot_be_is_a_conflict(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    (row,) = returned.read(str(tmp_path / name), None, None)
    assert row.path is None and returned.NOT_FOUND in row.problem


def test_json_that_is_nested_too_deeply_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ThawError, match="is not JSON"):
        returned.read(str(tmp_path / "a.json"), None, None)


def test_the_cache_keeps_what_it_is_given_and_survives_damage(tmp_path):
    key = "a" * 64
    small = np.zeros((), THUMBNAIL)
    entries = {str(i): Entry(np.full(4, i, np.float16), small) for i in range(3)}
    FeatureCache(tmp_path, key).add(entries)
    again = FeatureCache(tmp_path, key)
    assert again.hashes == {"0", "1", "2"} and not again.error
    assert again.get(["1", "9"])["1"].features.tolist() == [1, 1, 1, 1]
    (tmp_path / f"{key}.sqlite").write_bytes(b"no database, but long enough to be taken for one" * 100)
    damaged = FeatureCache(tmp_path, key)
    assert damaged.hashes == set() and not damaged.error
    (tmp_path / "file").write_text("")
    nowhere = FeatureCache(tmp_path / "file", key)
    nowhere.add(entries)
    assert nowhere.error and len(nowhere.get(["0", "1"])) == 2


def test_an_entry_of_the_cache_that_cannot_be_read_says_what_to_delete(tmp_path):
    large = Entry(np.arange(20_000).astype(np.float16), np.zeros((), THUMBNAIL))  # over several pages of the file
    FeatureCache(tmp_path, "a" * 64).add({"0": large})
    path = tmp_path / f"{'a' * 64}.sqlite"
    content = bytearray(path.read_bytes())
    content[-8192:] = bytes(8192)
    path.write_bytes(content)
    cache = FeatureCache(tmp_path, "a" * 64)
    assert cache.hashes == {"0"}
    with pytest.raises(ThawError, match="delete it"):
        cache.get(["0"])


@pytest.mark.parametrize("module", ["core/arrays.py", "images/views.py", "labelling/candidates.py"])
def test_features_are_computed_again_when_code_that_decides_them_changes(tmp_path, monkeypatch, module):
    network = tmp_path / "backbone.bin"
    network.write_bytes(b"weights")
    before = feature_cache.key([network], "224 crop None")
    shutil.copytree(feature_cache.SOURCE, tmp_path / "thaw", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(feature_cache, "SOURCE", tmp_path / "thaw")
    assert feature_cache.key([network], "224 crop None") == before
    with (tmp_path / "thaw" / module).open("a") as file:
        file.write("# edited")
    assert feature_cache.key([network], "224 crop None") != before


def test_the_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "MAX_IMAGES", 2)
    small = np.zeros((), THUMBNAIL)
    for digit in "abcdef":
        cache = FeatureCache(tmp_path, digit * 64)
        for i in range(3):
            cache.add({str(i): Entry(np.zeros(4, np.float16), small)})
        assert len(cache.get(["0", "1", "2"])) == 3  # to the end of the process
        assert FeatureCache(tmp_path, digit * 64).hashes == {"1", "2"}
    assert len(list(tmp_path.glob("*.sqlite"))) == feature_cache.MAX_KEPT


def test_a_hand_over_holds_any_name_and_any_class(tmp_path):
    path = draw(tmp_path / "ö & <b>, 1.png", 1)
    item = Item(path, "0" * 64, 0.5, "why", 'a "class" & more', 0.75)
    hand_over.write(tmp_path / "out", [item], ['a "class" & more', "<b>"])
    assert rows(tmp_path / "out" / hand_over.TABLE)[0]["path"] == str(path)
    (task,) = json.loads((tmp_path / "out" / hand_over.TASKS).read_text())
    assert label_studio.file_names(task["data"]["image"]) == [f"{tmp_path.name}/ö & <b>, 1.png"]
    import xml.etree.ElementTree as ElementTree

    page = ElementTree.fromstring((tmp_path / "out" / hand_over.PAGE).read_text())
    assert [choice.get("value") for choice in page.iter("Choice")] == ['a "class" & more', "<b>"]


EXPORTS = ROOT / "tests/data/label_studio"  # written by Label Studio 1.23.2 for a hand-over of `next`


@pytest.mark.parametrize("name", ["json.json", "json_min.json", "csv.csv"])
def test_what_label_studio_exports_is_read(name, tmp_path):
    text = (EXPORTS / name).read_text()
    found = re.findall(r"\{(\w+\.jpg)\}", text)
    hashes = {}
    for number, file in enumerate(sorted(set(found))):
        path = draw(tmp_path / "photographs" / file, number)
        hashes[file] = hashlib.sha256(path.read_bytes()).hexdigest()
        text = text.replace(f"{{{file}}}", hashes[file])
    export = tmp_path / name
    export.write_text(text.replace("{folder}", str(tmp_path / "photographs")))
    taken = taking.decide(returned.read(str(export), None, None), taking.Labelled(None, {}, {}), "x")
    files = list(dict.fromkeys(found))
    expected = dict(zip(files[:4], ["defective", "functional"] * 2, strict=True))
    assert {path.name: label for path, label, _ in taken.added} == expected
    assert taken.unlabelled == (1 if name == "json.json" else 0)  # one was skipped, which only JSON says
    assert {Path(conflict[1]).name for conflict in taken.conflicts} == {files[-1]}  # two people, two labels
    assert "several labels" in taken.conflicts[0][-1]


def test_photographs_of_a_project_that_was_made_by_hand_are_found_by_name(tmp_path):
    path = draw(tmp_path / "deep/er/cat 1.png", 1)
    task = {"data": {"image": "/data/upload/7/0a1b2c3d-cat 1.png"}}
    choices = {"type": "choices", "from_name": "kind", "value": {"choices": ["cat"]}}
    task["annotations"] = [{"result": [choices], "was_cancelled": False}]
    (tmp_path / "e.json").write_text(json.dumps([task]))
    assert returned.read(str(tmp_path / "e.json"), tmp_path, None)[0].path == path
    draw(tmp_path / "other/cat 1.png", 2)  # then the name says no longer which
    assert returned.read(str(tmp_path / "e.json"), tmp_path, None)[0].problem.startswith(returned.NOT_FOUND)
