"""Photographs that were labelled later beside those of the source, and labels of the source that are corrected."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

import fingerprints
from thaw.core import params
from thaw.core.errors import ThawError
from thaw.sources import added
from thaw.sources.added import join
from thaw.sources.base import SourceImage
from thaw.sources.collection import collect
from thaw.sources.registry import SOURCES
from thaw.splitting import splits

ROOT = Path(__file__).parents[1]


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6 + seed % 5, 9, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with three photographs of two classes, and three without a label in a folder beside it."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cat/a", "cat/b", "cat/c", "dog/a", "dog/b", "dog/c")):
        draw(tmp_path / f"pets/{name}.png", number)
    for number in range(3):
        draw(tmp_path / f"new/{number}.png", 10 + number)
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    write_params(tmp_path)
    return tmp_path


def write_params(project: Path, **download) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["download"] |= {"source": "folder", "folder": {"path": "pets"}} | download
    (project / "params.yaml").write_text(yaml.safe_dump(values))


def write_table(path: Path, *lines: str, columns: str = "path,label") -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([columns, *lines]) + "\n")
    return path.name if path.parent == Path() else str(path)


def joined(project: Path, **download):
    write_params(project, **download)
    section = params.load(project / "params.yaml").download
    return join(SOURCES[section.source].find(getattr(section, section.source)), section)


def refusal(project: Path, **download) -> str:
    with pytest.raises(ThawError) as caught:
        joined(project, **download)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels(found) -> dict[str, str]:
    return {image.path.name if image.path.parent.name == "new" else str(image.path.parent.name) + image.path.stem:
            image.label for image in found.images if not image.left_out}  # fmt: skip


def run_stage(project: Path, stage: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / f"src/{stage}.py"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_added_photographs_come_beside_those_of_the_source(project):
    table = write_table(project / "more.csv", "new/0.png,dog", "new/1.png,cat")
    found = joined(project, added=table)
    source = {"cata": "cat", "catb": "cat", "catc": "cat", "doga": "dog", "dogb": "dog", "dogc": "dog"}
    assert labels(found) == source | {"0.png": "dog", "1.png": "cat"}
    assert found.listing.info.classes == ("cat", "dog")
    raw = project / "raw"
    images, missing = collect(found.listing, raw, found.added)
    assert dict(images["source"].value_counts().iter_rows()) == {"folder": 6, "added": 2}
    assert len(missing) == 0
    assert (raw / images.filter(source="added")["path"][0]).exists()


def test_one_class_is_enough_and_a_row_without_a_label_is_counted(project):
    table = write_table(project / "more.csv", "new/0.png,dog", "new/1.png,")
    found = joined(project, added=table)
    assert labels(found)["0.png"] == "dog"
    assert "1 of them added by download.added" in found.notes
    assert any("1 rows of more.csv without a path or a label" in note for note in found.notes)


def test_the_id_stays_when_the_photograph_is_moved(project):
    digest = hashlib.sha256((project / "new/0.png").read_bytes()).hexdigest()
    columns = "path,label,sha256"
    before = joined(project, added=write_table(project / "more.csv", f"new/0.png,dog,{digest}", columns=columns))
    (project / "elsewhere").mkdir()
    (project / "new/0.png").rename(project / "elsewhere/0.png")
    after = joined(project, added=write_table(project / "more.csv", f"elsewhere/0.png,dog,{digest}", columns=columns))
    assert before.images[-1].image_id == after.images[-1].image_id == f"0-{digest[:8]}"


def test_a_label_is_not_given_to_another_file_than_the_one_that_was_labelled(project):
    def sha256(path):
        return hashlib.sha256((project / path).read_bytes()).hexdigest()

    lines_of_added = [f"new/{number}.png,dog,{sha256(f'new/{number}.png')}" for number in range(2)]
    table = write_table(project / "more.csv", *lines_of_added, columns="path,label,sha256")
    ids = {image.path.stem: image.image_id for image in joined(project).images if image.label == "cat"}
    lines = [f"{ids[name]},{sha256(f'pets/cat/{name}.png')},cat,dog" for name in "ab"]
    corrections = write_table(project / "wrong.csv", *lines, columns="image_id,sha256,old,new")
    draw(project / "new/0.png", 99)
    draw(project / "pets/cat/a.png", 98)
    found = joined(project, added=table, corrections=corrections)
    assert labels(found)["cata"] == "cat" and labels(found)["catb"] == "dog"
    said = f"1 corrections are not applied, since the file is another one now, such as that of {ids['a']}"
    assert found.warnings == (said,)
    images, missing = collect(found.listing, project / "raw", found.added)
    ((image_id, file, reason),) = missing.iter_rows()
    assert (file, reason) == ("new/0.png", "another file than the one that was labelled")
    assert image_id.startswith("0-") and image_id not in images["image_id"]
    assert not list((project / "raw/images").glob("0-*"))
    write_table(project / "more.csv", lines_of_added[0], columns="path,label,sha256")
    found = joined(project, added="more.csv")
    _, missing = collect(found.listing, project / "none", found.added)  # it can be read: over half of them are no error
    assert len(missing) == 1
    again = f"new/0.png,cat,{sha256('new/0.png').upper()}"  # labelled once more, with its new name for the bytes
    write_table(project / "more.csv", *lines_of_added, again, columns="path,label,sha256")
    found = joined(project, added="more.csv")
    assert labels(found)["0.png"] == "cat" and "1 rows of earlier files of the same name" in found.notes
    images, missing = collect(found.listing, project / "again", found.added)
    assert missing.is_empty() and "cat" in images.filter(pl.col("image_id").str.starts_with("0-"))["label"].to_list()
    draw(project / "new/0.png", 97)  # a third file, which nobody has labelled
    found = joined(project, added="more.csv")
    _, missing = collect(found.listing, project / "third", found.added)
    assert missing["reason"].to_list() == ["another file than the one that was labelled"]


def test_columns_of_one_part_alone_are_empty_in_the_other(project):
    table = write_table(project / "more.csv", "new/0.png,dog,garden", columns="path,label,meta_place")
    found = joined(project, added=table)
    collect(found.listing, project / "raw", found.added)
    images = pl.read_csv(project / "raw/images.csv", infer_schema=False)
    assert sorted(images["meta_place"].fill_null("null").to_list()) == [""] * 6 + ["garden"]


def test_a_photograph_that_the_source_has_too_counts_once_as_the_source_has_it(project):
    shutil.copyfile(project / "pets/cat/a.png", project / "new/copy.png")
    table = write_table(project / "more.csv", "new/copy.png,dog", "pets/dog/a.png,dog", "new/0.png,dog")
    found = joined(project, added=table)
    reasons = {image.path.name: image.left_out for image in found.added.images}
    assert reasons == {"copy.png": "also in the source, as 'cat'", "a.png": "also in the source", "0.png": ""}
    assert any("2 photographs of download.added are in the source too" in warning for warning in found.warnings)


def test_a_label_that_is_no_class_names_the_parameter_that_admits_it(project):
    table = write_table(project / "more.csv", "new/0.png,dgo")
    message = refusal(project, added=table)
    assert "'dgo'" in message and "did you mean dog?" in message and "download.new_classes" in message


def test_a_new_class_comes_behind_those_of_the_source(project):
    table = write_table(project / "more.csv", "new/0.png,bee", "new/1.png,bee", "new/2.png,bee")
    found = joined(project, added=table, new_classes=["bee", "ant"])
    assert found.listing.info.classes == ("cat", "dog", "bee")
    assert any("no photograph of download.new_classes: ant" in note for note in found.notes)


def test_a_new_class_that_is_named_twice_is_one(project):
    table = write_table(project / "more.csv", *(f"new/{n}.png,caf\u00e9" for n in range(3)))
    found = joined(project, added=table, new_classes=["cafe\u0301", "caf\u00e9", "cafe\u0301"])
    assert found.listing.info.classes == ("cat", "dog", "caf\u00e9")


def test_a_new_class_that_looks_like_another_is_refused(project):
    table = write_table(project / "more.csv", "new/0.png,cat")
    assert "look the same" in refusal(project, added=table, new_classes=["cat\u200b"])
    assert "cannot be printed on one line" in refusal(project, added=table, new_classes=["a\nb"])


def test_a_split_in_the_table_is_refused(project):
    table = write_table(project / "more.csv", "new/0.png,cat,test", columns="path,label,split")
    assert "split.added says where" in refusal(project, added=table)


def test_a_correction_changes_the_label_and_counts(project):
    image_id = {image.path.stem + image.label: image.image_id for image in joined(project).images}
    write_table(
        project / "corrections.csv",
        f"{image_id['acat']},cat,dog",
        f"{image_id['bcat']},dog,cat",
        f"{image_id['ccat']},cat,cat",
        f"{image_id['adog']},bird,cat",
        "gone-123,cat,dog",
        columns="image_id,old,new",
    )
    found = joined(project, corrections="corrections.csv")
    assert labels(found) == {"cata": "dog", "catb": "cat", "catc": "cat", "doga": "dog", "dogb": "dog", "dogc": "dog"}
    assert "1 labels corrected by download.corrections" in found.notes
    assert "1 corrections are in the source already" in found.notes
    assert "1 corrections of photographs that are not there" in found.notes
    assert len(found.warnings) == 1 and f"'dog' of {image_id['adog']}" in found.warnings[0]


def test_corrections_follow_one_another(project):
    image_id = next(image.image_id for image in joined(project).images if image.label == "cat")
    rows = [f"{image_id},cat,dog", f"{image_id},dog,cat", f"{image_id},cat,dog"]
    write_table(project / "corrections.csv", *rows, columns="image_id,old,new")
    found = joined(project, corrections="corrections.csv")
    assert next(image.label for image in found.images if image.image_id == image_id) == "dog"


def test_corrections_that_contradict_each_other_are_said_and_the_first_counts(project):
    image_id = next(image.image_id for image in joined(project).images if image.label == "cat")
    write_table(project / "c.csv", f"{image_id},cat,dog", f"{image_id},cat,owl", columns="image_id,old,new")
    found = joined(project, corrections="c.csv", new_classes=["owl"])
    assert next(image.label for image in found.images if image.image_id == image_id) == "dog"
    assert found.warnings == (
        "1 photographs have corrections that contradict each other, of which the first counts: "
        f"{image_id} has one from 'cat' to 'owl' besides",
    )


def test_added_labels_written_as_the_classes_are_are_these(project):
    (project / "pets/cat").rename(project / "pets/1.0")
    (project / "pets/dog").rename(project / "pets/2.0")
    (project / "pets/0.5").mkdir()
    draw(project / "pets/0.5/a.png", 50)
    found = joined(project, added=write_table(project / "more.csv", "new/0.png,1.0", "new/1.png,2.0"))
    assert [image.label for image in found.added.images] == ["1.0", "2.0"]


@pytest.mark.parametrize(
    ("line", "said"),
    [("x,cat,dgo", "'dgo', which is no class (did you mean dog"), ("x,,dog", "line 2 needs an image_id")],
)
def test_a_correction_that_cannot_be_is_one_line(project, line, said):
    write_table(project / "corrections.csv", line, columns="image_id,old,new")
    assert said in refusal(project, corrections="corrections.csv")


def test_the_stages_take_added_photographs_and_notice_each_change(project):
    table = write_table(project / "more.csv", "new/0.png,dog")
    write_params(project)
    run_stage(project, "inputs")
    run_stage(project, "fingerprints")
    without = (project / "data/inputs/photographs.json").read_text()
    write_params(project, added=table)
    assert run_stage(project, "inputs").returncode == 0
    hashes = []
    for change in (
        None,
        ("more.csv", "path,label\nnew/0.png,cat\n"),
        ("corrections.csv", "image_id,old,new\na,cat,dog\n"),
    ):
        if change:
            (project / change[0]).write_text(change[1])
            write_params(project, added=table, **({"corrections": "corrections.csv"} if "corr" in change[0] else {}))
        for _ in range(2):
            result = run_stage(project, "fingerprints")
            assert result.returncode == 0, result.stderr
            hashes.append((project / "data/inputs/photographs.json").read_text())
    assert without != hashes[0] == hashes[1] != hashes[2] == hashes[3] != hashes[4] == hashes[5]
    result = run_stage(project, "download")
    assert "7 photographs from folder: 4 cat, 3 dog" in result.stdout, result.stderr
    assert "1 of them added by download.added" in result.stdout


def test_photographs_of_a_package_are_looked_at_each_time_once_some_are_added(project, monkeypatch):
    table = write_table(project / "more.csv", "new/0.png,functional")
    write_params(project, source="elpv", added=table)
    run_stage(project, "inputs")
    assert (project / "data/inputs/each_time.yaml").read_text() == "each_time: .nan\n"
    monkeypatch.setattr(fingerprints, "MEMORY", project / "memory")
    download = params.load(project / "params.yaml").download
    before = fingerprints.of_photographs(download, "single", None)
    draw(project / "new/0.png", 99)
    after = fingerprints.of_photographs(download, "single", before)
    assert len({None, before, after}) == 3
    other = write_table(project / "more.csv", r"new\0.png,defective", columns="Path,Label")
    write_params(project, source="elpv", added=other)
    changed = fingerprints.of_photographs(params.load(project / "params.yaml").download, "single", after)
    assert changed not in (None, before, after)  # it is found as the stage finds it
    write_table(project / "more.csv", "new/0.png,functional")
    monkeypatch.setattr(fingerprints, "MEMORY", project / "memory of a clone")
    (project / "new").rename(project / "elsewhere")  # Git brings the table to a teammate, and not the photographs
    assert fingerprints.of_photographs(download, "single", after) == after
    write_params(project, source="elpv")
    assert fingerprints.of_photographs(params.load(project / "params.yaml").download, "single", after) is None
    (project / "more.csv").unlink()
    assert fingerprints.of_photographs(download, "single", after) == after


def test_a_table_in_a_folder_that_the_pipeline_writes_is_refused(project):
    (project / "data/raw").mkdir(parents=True)
    write_params(project, added=write_table(project / "data/raw/more.csv", "0.png,dog"))
    result = run_stage(project, "inputs")
    assert result.returncode == 1 and "download.added" in result.stderr and "lies in" in result.stderr


def rows(count: int, added_from: int, label: str = "cat") -> pl.DataFrame:
    ids = [f"{label}{i:03}" for i in range(count)]
    return pl.DataFrame(
        {"image_id": ids, "label": label, "stratum": label, "group": ids, "own_group": "", "subset": "",
         "is_added": [i >= added_from for i in range(count)]}
    )  # fmt: skip


def split_of(table: pl.DataFrame, **changes) -> dict[str, str]:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["split"] | changes
    section = type(params.load(ROOT / "params.yaml").split)(**values)
    return dict(zip(table["image_id"], splits.draw(table, section), strict=True))


def test_added_photographs_train_and_move_no_other():
    before = split_of(rows(60, 60))
    after = split_of(rows(90, 60))
    assert {after[name] for name in after.keys() - before.keys()} == {"train"}
    assert all(after[name] == split for name, split in before.items())


def test_added_photographs_are_drawn_if_that_is_asked_for_or_if_the_class_is_new():
    assert {split_of(rows(90, 60), added="draw")[f"cat{i:03}"] for i in range(60, 90)} == {
        "train", "validation", "test"
    }  # fmt: skip
    both = pl.concat([rows(60, 60), rows(30, 0, "dog")])
    assert {split for name, split in split_of(both).items() if name.startswith("dog")} == {
        "train",
        "validation",
        "test",
    }


def test_a_near_duplicate_of_a_photograph_of_the_source_goes_with_it():
    alone = split_of(rows(60, 60))
    for name, split in list(alone.items())[:20]:
        is_added = pl.col("image_id") == "cat060"
        together = split_of(rows(61, 60).with_columns(group=pl.when(is_added).then(pl.lit(name)).otherwise("group")))
        assert together["cat060"] == together[name] == split


def test_a_table_names_its_classes_for_the_fingerprint_alone(project):
    write_table(project / "more.csv", "new/0.png,whatever")
    assert added.find(project / "more.csv").info.classes == ("whatever",)


@pytest.mark.parametrize("key", ["added", "corrections"])
def test_with_several_labels_a_photograph_nothing_is_added(project, key):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["task"] = "multi"
    values["download"] |= {"source": "table", key: "more.csv"}
    values["download"]["table"] |= {"path": "t.csv", "unlisted": "absent"}
    with pytest.raises(ThawError, match=rf"download\.{key} must be null"):
        params.parse(yaml.safe_dump(values), "params.yaml")


def test_near_duplicates_that_were_added_do_not_move_a_photograph_of_the_source():
    name = next(name for name, split in split_of(rows(60, 60)).items() if split == "train")
    for number in range(60, 100):
        table = rows(60, 60).vstack(rows(100, 60)[number : number + 1].with_columns(group=pl.lit(name)))
        assert split_of(table)[name] == "train"


def test_as_many_photographs_as_the_splits_need_are_enough_for_added_ones_to_train():
    after = split_of(rows(37, 7), validation=0.15, test=0.25)
    assert {after[f"cat{i:03}"] for i in range(7, 37)} == {"train"}


def test_a_corrected_label_weighs_as_one_that_a_person_has_looked_at():
    corrections = added._Corrections([added.Correction("a", "cat", "dog")], {"cat", "dog"}, "labels.csv")
    images = [SourceImage(name, Path(f"{name}.png"), "cat", 0.25) for name in "ab"]
    corrected = corrections.apply(images, are_copied=False)
    assert [(image.label, image.weight) for image in corrected] == [("dog", 1.0), ("cat", 0.25)]


def test_a_row_without_a_hash_still_contradicts_one_with_it(project):
    sha256 = hashlib.sha256((project / "new/0.png").read_bytes()).hexdigest()
    write_table(project / "more.csv", f"new/0.png,cat,{sha256}", "new/0.png,dog,", columns="path,label,sha256")
    assert "new/0.png with the label 'cat'" in refusal(project, added="more.csv")
