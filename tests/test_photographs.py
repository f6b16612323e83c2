"""`make repro PHOTOS=path`: photographs of one's own are looked at, and params.yaml gets what suits them."""

import difflib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from conftest import ROOT
from PIL import Image

import photographs
from thaw.core import params, tables
from thaw.core.errors import ThawError
from thaw.experiments import params_edit
from thaw.guide import summary, survey, time_needed
from thaw.sources.base import UnreachableError
from thaw.splitting import splits

SPEED = time_needed.Speed(multiply_adds=150e9, share=1.0)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the parameters of the solar cells, in which the script runs."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    values = params_edit.read(ROOT / "params.yaml")
    params_edit.apply(values, params_edit.read(ROOT / "recipes" / "elpv.yaml"))
    (folder / "params.yaml").write_text(params_edit.dump(values), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(time_needed, "measure_speed", lambda: SPEED)
    return folder


def draw(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (len(path.name), 90, 30)).save(path)
    return path


def classes(folder: Path, count: int = 8, names: tuple[str, ...] = ("cat", "dog"), size=(40, 30)) -> Path:
    for name in names:
        for number in range(count):
            draw(folder / name / f"{number}.png", size)
    return folder


def settings() -> dict[str, object]:
    params.load(Path("params.yaml"))
    return dict(params.flatten(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))))


def edit(**changes: object) -> None:
    """Change parameters, named `section__key`, as a person does."""
    values = params_edit.read(Path("params.yaml"))
    params_edit.apply(values, params_edit.nest({key.replace("__", "."): value for key, value in changes.items()}))
    Path("params.yaml").write_text(params_edit.dump(values), encoding="utf-8")


def changed_lines(before: str) -> list[str]:
    after = Path("params.yaml").read_text(encoding="utf-8")
    return [line[2:].split("#")[0].strip() for line in difflib.ndiff(before.splitlines(), after.splitlines())
            if line[:2] == "+ "]  # fmt: skip


def test_what_suits_the_photographs_is_written_and_comments_stay(project, capsys):
    before = Path("params.yaml").read_text(encoding="utf-8")
    photographs.prepare(str(classes(project.parent / "mine")))
    assert changed_lines(before) == [
        "source: folder", f"path: {project.parent}/mine", "folds: auto", "preset: auto", "resize: auto",
    ]  # fmt: skip
    assert Path("params.yaml").read_text(encoding="utf-8").count("#") == before.count("#")
    output = capsys.readouterr().out
    assert "params.yaml: 5 changes\n  augment.preset: any_way_up → auto (the head decides" in output
    lost = "the middle square would leave out 25% of the median shape"
    assert f"  image.resize: crop → auto ({lost}: validation decides)\n" in output
    assert "  split.folds: null → auto (each photograph is tested once, by a model that has not seen it)\n" in output
    assert "(5 folds: it trains up to 6 times)" in output


def test_a_model_to_keep_is_refused_where_there_will_be_no_folds(project):
    edit(split__folds="auto", fine_tune__keep="head")
    before = settings()
    mine = project.parent / "mine"
    for split in tables.SPLITS:
        classes(mine / split)
    with pytest.raises(ThawError, match=r"^fine_tune\.keep: head is for folds, and there is one split: set it to auto"):
        photographs.prepare(str(mine))
    assert settings() == before


def test_it_says_what_it_found(project, capsys):
    mine = classes(project.parent / "mine", count=9, names=("cat", "dog"))
    classes(mine, count=7, names=("ant",), size=(224, 224))
    (mine / "cat" / "notes.txt").write_text("x")
    (mine / "cat" / "a.log").write_text("x")
    draw(mine / "loose.png")
    photographs.prepare(str(mine))
    assert capsys.readouterr().out.splitlines()[:5] == [
        f"found: 25 photographs of 3 classes in {mine}",
        "  classes: ant 7, cat 9, dog 9",
        "  files: 25 PNG; smallest 40×30, median 40×30, largest 224×224 pixels (all were opened)",
        "  split: 5 folds of about 5, each of which tests once, drawn by Thaw (before near-duplicates are united)",
        "  left out: 2 not an image by its content (1 .log, 1 .txt); 1 in no folder of a class",
    ]


def test_square_photographs_of_the_input_size_change_nothing_but_source_and_preset(project, capsys):
    before = Path("params.yaml").read_text(encoding="utf-8")
    photographs.prepare(str(classes(project.parent / "mine", size=(224, 224))))
    assert [line.split(":")[0] for line in changed_lines(before)] == ["source", "path", "folds", "preset"]
    assert "enlarged" not in capsys.readouterr().out


def test_small_photographs_are_not_enlarged_without_a_word(project, capsys):
    photographs.prepare(str(classes(project.parent / "mine", size=(112, 84))))
    assert "image.size: 224 stays, so the photographs are enlarged 2.7 times" in capsys.readouterr().out
    edit(backbone__name="DINOv2S14", backbone__weights=None, image__size=None, fine_tune__freeze_depth="all")
    photographs.prepare(str(project.parent / "mine"))
    output = capsys.readouterr().out
    assert "image.size: null stays, " in output and "With image.size: 84 a run is faster" in output
    edit(backbone__name="InceptionV3", image__size=96)
    photographs.prepare(str(classes(project.parent / "tiny", size=(60, 60))))
    assert "image.size: 96 stays, so the photographs are enlarged 1.6 times\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["my photos", "it's", 'say "x"', "ünïcödé 日本", "a#b", "- x: [1]", "$HOME ${x}", "%d"]
)
def test_a_path_may_have_any_characters_and_be_relative(name, project, monkeypatch):
    mine = classes(project.parent / name)
    photographs.prepare(f"../{name}")
    assert settings()["download.folder.path"] == str(mine)


def test_a_tilde_is_the_home(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project.parent))
    classes(project.parent / "mine")
    photographs.prepare("~/mine")
    assert settings()["download.folder.path"] == f"{project.parent}/mine"


def test_two_dots_after_a_link_are_those_of_its_target(project):
    mine = classes(project.parent / "elsewhere" / "mine")
    (project / "link").symlink_to(mine)
    classes(mine.parent / "other")
    photographs.prepare("link/../other")
    assert settings()["download.folder.path"] == str(mine.parent / "other")


def test_a_second_call_changes_nothing(project, capsys):
    mine = classes(project.parent / "mine")
    photographs.prepare(str(mine))
    before = Path("params.yaml").read_bytes()
    capsys.readouterr()
    photographs.prepare("../mine")
    assert Path("params.yaml").read_bytes() == before
    assert "params.yaml: nothing to change\n" in capsys.readouterr().out


def test_what_a_person_has_set_is_kept_and_said(project, capsys):
    edit(augment__preset="upright", augment__rotation=30, image__resize="pad", image__size=160, split__test=0.3)
    before = settings()
    photographs.prepare(str(classes(project.parent / "mine")))
    after, output = settings(), capsys.readouterr().out
    assert {key for key in after if after[key] != before[key]} == {"download.source", "download.folder.path"}
    assert "  augment.preset: upright stays, as it was set (auto would suit: the head decides" in output
    assert "  image.resize: pad stays, as it was set (auto would suit" in output
    for line in ("augment.rotation: 30", "image.size: 160", "split.test: 0.3"):
        assert f"  {line} stays, as it was set\n" in output


def test_squash_that_a_person_has_set_is_kept(project, capsys):
    edit(image__resize="squash")
    photographs.prepare(str(classes(project.parent / "mine")))
    assert settings()["image.resize"] == "squash"
    assert "  image.resize: squash stays, as it was set (auto would suit" in capsys.readouterr().out


def test_several_labels_are_not_prepared_and_that_is_said(project):
    table = {"download__source": "table", "download__table__path": "x.csv", "download__table__unlisted": "absent"}
    edit(task="multi", augment__preset="upright", **table)
    before = Path("params.yaml").read_bytes()
    with pytest.raises(ThawError, match=r"^task: multi is not prepared by this command, .*several-labels\.md"):
        photographs.prepare(str(classes(project.parent / "mine")))
    assert Path("params.yaml").read_bytes() == before


def test_a_table_that_marks_what_is_to_train_leaves_the_others_to_the_draw(project, capsys):
    mine = classes(project.parent / "mine", count=20)
    rows = [f"{path.relative_to(mine)},{path.parent.name},{'train' if int(path.stem) % 2 else ''}"
            for path in sorted(mine.rglob("*.png"))]  # fmt: skip
    (mine / "labels.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    photographs.prepare("../mine/labels.csv")
    output = capsys.readouterr().out
    assert "  split: your own, 20 train; validation and test drawn from the others: " in output
    assert "split.folds: null → auto (your own split is taken)" in output


def test_what_a_person_set_after_the_first_call_is_kept_even_if_the_solar_cells_have_it(project, capsys):
    mine = classes(project.parent / "mine")
    photographs.prepare(str(mine))
    edit(augment__preset="any_way_up", image__resize="crop")
    before = Path("params.yaml").read_bytes()
    photographs.prepare(str(mine))
    assert Path("params.yaml").read_bytes() == before
    assert "image.resize: crop stays, as it was set (auto would suit" in capsys.readouterr().out


def test_other_photographs_get_what_suits_them(project):
    photographs.prepare(str(classes(project.parent / "mine")))
    assert settings()["image.resize"] == "auto"
    photographs.prepare(str(classes(project.parent / "square", size=(50, 50))))
    assert settings()["image.resize"] == "crop" and settings()["augment.preset"] == "auto"


def test_who_has_set_the_fractions_of_a_split_gets_no_folds(project, capsys):
    edit(split__test=0.3)
    photographs.prepare(str(classes(project.parent / "mine", count=20)))
    assert settings()["split.folds"] is None
    output = capsys.readouterr().out
    assert "  split.folds: null stays, as it was set (auto would suit: each photograph is tested once" in output
    assert " test, drawn by Thaw" in output


def test_a_split_by_time_gets_no_folds(project, capsys):
    edit(split__after="2024-05-01")
    photographs.prepare(str(classes(project.parent / "mine", count=20)))
    assert settings()["split.folds"] is None
    assert "  split: test is what is newer than 2024-05-01 (split.after); " in capsys.readouterr().out


def test_a_split_by_a_column_of_times_is_drawn_as_the_stage_will(project, capsys):
    mine = classes(project.parent / "mine", count=12)
    paths = sorted(mine.rglob("*.png"))
    rows = [f"{path.relative_to(mine)},{path.parent.name},2024-0{1 + i % 6}-01" for i, path in enumerate(paths)]
    (mine / "labels.csv").write_text("\n".join(["path,label,meta_date", *rows]) + "\n")
    edit(split__after="2024-05-15", split__time="date", split__validation=0.1, split__test=0.1)
    photographs.prepare(str(mine / "labels.csv"))  # 10 older ones of each class: enough for validation alone
    assert settings()["download.source"] == "table"


def test_what_was_labelled_since_is_said_and_its_classes_count(project, capsys):
    mine = classes(project.parent / "mine")
    photographs.prepare(str(mine))
    draw(project / "new/a.png"), draw(project / "new/b.png")
    (project / "more.csv").write_text("path,label\nnew/a.png,owl\nnew/b.png,cat\nnew/gone.png,cat\n")
    edit(download__added="more.csv", download__new_classes=["owl"])
    capsys.readouterr()
    photographs.prepare(str(mine))
    assert "  besides: 2 of download.added, which these numbers do not count\n" in capsys.readouterr().out
    edit(evaluate__threshold="best_f1")
    with pytest.raises(ThawError, match=r"needs two classes, and there are 3"):
        photographs.prepare(str(mine))


def test_deep_photographs_of_before_are_not_forgotten(project, capsys):
    edit(download__bits=12)
    photographs.prepare(str(classes(project.parent / "mine")))
    assert "  download.bits: 12 stays, as it was set\n" in capsys.readouterr().out


def test_a_split_of_ones_own_is_taken_with_folds_auto(project, capsys):
    for subset, count in (("train", 9), ("val", 3), ("test", 4)):
        classes(project.parent / "mine" / subset, count)
    photographs.prepare(str(project.parent / "mine"))
    output = capsys.readouterr().out
    assert "split.folds: null → auto (your own split is taken)" in output
    assert "  split: your own, 18 train, 6 validation, 8 test\n" in output


def test_a_split_of_ones_own_is_said(project, capsys):
    for subset, count in (("train", 9), ("val", 3), ("test", 4)):
        classes(project.parent / "mine" / subset, count)
    photographs.prepare(str(project.parent / "mine"))
    assert "  split: your own, 18 train, 6 validation, 8 test\n" in capsys.readouterr().out


def test_of_a_split_of_ones_own_what_is_used_is_said_where_it_differs(project, capsys):
    mine = project.parent / "mine"
    for subset, count in (("train", 9), ("val", 3), ("test", 4)):
        classes(mine / subset, count)
    classes(mine / "more", 2)
    subsets = {"val": "validation", "more": ""}
    rows = [
        f"{path.relative_to(mine)},{path.parent.name},{subsets.get(path.parts[-3], path.parts[-3])}"
        for path in sorted(mine.rglob("*.png"))
    ]
    (mine / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    photographs.prepare(str(mine / "labels.csv"))
    said = "  split: your own, 18 train, 6 validation, 8 test; in all 22 train, 6 validation, 8 test (before"
    assert said in capsys.readouterr().out


def test_a_split_without_validation_has_one_drawn(project, capsys):
    for subset, count in (("train", 20), ("test", 4)):
        classes(project.parent / "mine" / subset, count)
    photographs.prepare(str(project.parent / "mine"))
    assert "  split: your own, 40 train, 8 test; validation drawn from train: " in capsys.readouterr().out


def test_folders_of_a_split_beside_another_folder_are_classes_and_that_is_said(project, capsys):
    classes(project.parent / "mine", names=("train", "test", "extra"))
    photographs.prepare(str(project.parent / "mine"))
    assert (
        "warning: test, train count as classes, not as splits, because of extra beside them" in capsys.readouterr().out
    )


def test_a_table_is_a_source_with_groups_and_weights(project, capsys):
    mine = classes(project.parent / "mine", count=12)
    rows = [f"{path.relative_to(mine)},{path.parent.name},{int(path.stem) // 2},{1 + int(path.stem) % 2}"
            for path in sorted(mine.rglob("*.png"))]  # fmt: skip
    (mine / "labels.csv").write_text("path,label,group,weight\n" + "\n".join(rows) + "\ngone.png,cat,9,1\n")
    photographs.prepare("../mine/labels.csv")
    after, output = settings(), capsys.readouterr().out
    assert after["download.source"] == "table" and after["download.table.path"] == str(mine / "labels.csv")
    assert "  groups: 6, never divided; the largest, 0, has 4\n  weights: from 1 to 2\n" in output
    assert "  left out: 1 no such file\n" in output


def write_table(folder: Path, header: str) -> Path:
    """Write a table of two columns with the photographs of a folder and their classes."""
    table = folder / f"{header.replace(',', '_')}.csv"
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    table.write_text("\n".join([header, *rows]) + "\n")
    return table


def test_columns_with_other_names_are_found_and_said(project, capsys):
    mine = classes(project.parent / "mine")
    photographs.prepare(str(write_table(mine, "Filename,class")))
    after, output = settings(), capsys.readouterr().out
    assert (after["download.table.path_column"], after["download.table.label_column"]) == ("Filename", "class")
    assert "  download.table.path_column: path → Filename (the table has no column path)\n" in output
    assert "found: 16 photographs of 2 classes" in output
    photographs.prepare(str(mine / "Filename_class.csv"))
    assert "params.yaml: nothing to change" in capsys.readouterr().out
    photographs.prepare(str(write_table(mine, "PATH,label")))  # another one, with the usual names
    after = settings()
    assert (after["download.table.path_column"], after["download.table.label_column"]) == ("PATH", "label")


def test_a_column_that_stays_beside_the_usual_one_is_said(project, capsys):
    mine = classes(project.parent / "mine")
    photographs.prepare(str(write_table(mine, "path,class")))
    assert settings()["download.table.label_column"] == "class"
    table = pl.read_csv(mine / "path_class.csv").with_columns(label=pl.col("class").str.to_uppercase())
    table.write_csv(mine / "both.csv")
    capsys.readouterr()
    photographs.prepare(str(mine / "both.csv"))
    assert settings()["download.table.label_column"] == "class"
    said = "label_column: class stays, as it was set (label would suit: the table has that column, too)"
    assert said in capsys.readouterr().out


def test_a_column_that_a_person_named_is_taken_before_one_with_a_usual_name(project):
    mine = classes(project.parent / "mine")
    edit(download__table__label_column="animal")
    photographs.prepare(str(write_table(mine, "path,animal")))
    assert settings()["download.table.label_column"] == "animal"


@pytest.mark.parametrize(("header", "message"), [
    ("thing,label", "has no column 'path'"), ("path,kind", "has no column 'label'"),
])  # fmt: skip
def test_columns_with_names_of_their_own_are_one_line(project, header, message):
    before = Path("params.yaml").read_bytes()
    with pytest.raises(ThawError, match=message):
        photographs.prepare(str(write_table(classes(project.parent / "mine"), header)))
    assert Path("params.yaml").read_bytes() == before


def test_two_columns_that_may_be_meant_are_one_line(project):
    mine = classes(project.parent / "mine")
    rows = [f"{path.relative_to(mine)},{path.name},{path.parent.name}" for path in sorted(mine.rglob("*.png"))]
    (mine / "labels.csv").write_text("\n".join(["image_path,filename,label", *rows]) + "\n")
    with pytest.raises(ThawError, match="has no column 'path'"):
        photographs.prepare(str(mine / "labels.csv"))


def test_a_table_in_the_folder_is_pointed_at(project):
    mine = project.parent / "mine"
    draw(mine / "1.png")
    (mine / "labels.csv").write_text("path,label\n1.png,cat\n")
    with pytest.raises(ThawError, match=rf"is {mine}/labels.csv the table with their labels\?"):
        photographs.prepare(str(mine))


def test_the_folder_in_an_unpacked_archive_is_pointed_at(project):
    classes(project.parent / "mine" / "dataset")
    with pytest.raises(ThawError, match=rf"did you mean {project.parent}/mine/dataset, which has 2 folders\?"):
        photographs.prepare(str(project.parent / "mine"))


def one_of_each(folder: Path) -> Path:
    for number in range(30):
        draw(folder / f"class {number}" / "1.png")
    return folder


def unreadable(folder: Path) -> Path:
    for path in classes(folder).rglob("*.png"):
        path.write_bytes(b"no photograph")
    return folder


def pointers(folder: Path) -> Path:
    for path in classes(folder).rglob("*.png"):
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    return folder


def file(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


BAD = {  # what there is, and what is said
    "nothing at the path": (
        lambda f: classes(f / "photos") and f / "photo", "does not exist (did you mean {f}/photos?)"
    ),
    "a folder on the way is misspelt": (
        lambda f: classes(f / "photos" / "all") and f / "fotos" / "all", "(did you mean {f}/photos/all?)"
    ),
    "an archive": (lambda f: file(f / "photos.zip"), "is an archive: unpack it"),
    "one photograph": (lambda f: draw(f / "1.jpg"), "is one photograph"),
    "no table": (lambda f: file(f / "notes.txt"), "is not a table by its ending"),
    "a device": (lambda f: Path("/dev/null"), "is neither a folder nor a file"),
    "an empty folder": (lambda f: f, "holds no photograph in a folder of its class"),
    "photographs in no folder": (lambda f: draw(f / "1.png").parent, "needs a folder for each class, or a table"),
    "one class": (lambda f: classes(f, names=("cat",)), "holds one class, 'cat'"),
    "one photograph of each class": (one_of_each, "has 1 photograph: too few to train, validate and test"),
    "no file is a photograph": (unreadable, "none of the 16 photographs that were opened can be read"),
    "Git LFS has not fetched them": (pointers, "cat/0.png: a pointer of Git LFS: run git lfs pull"),
    "a photograph without an ending": (lambda f: draw(f / "1.jpg").rename(f / "1"), "is one photograph"),
    "a name that is no text": (lambda f: Path(os.fsdecode(os.fsencode(f) + b"/\xff")), "rename it"),
    "an address": (lambda f: "https://example.org/x.zip", "is an address: download it, unpack it, and name the folder"),
    "an empty path": (lambda f: "", "the path of the photographs is empty"),
    "nobody's home": (lambda f: "~nobody-of-this-name/x", "there is no such home"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_params_as_they_are(case, project, tmp_path):
    make, message = BAD[case]
    folder = tmp_path / "mine"
    folder.mkdir()
    before = Path("params.yaml").read_bytes()
    with pytest.raises(ThawError) as error:
        photographs.prepare(str(make(folder)))
    assert message.format(f=folder) in str(error.value) and "\n" not in str(error.value)
    assert "download." not in str(error.value)
    assert Path("params.yaml").read_bytes() == before


def test_what_was_found_is_said_before_the_error_that_it_explains(project, capsys):
    mine = classes(project.parent / "mine")
    draw(mine / "bird" / "1.png"), draw(mine / "bird" / "1_mask.png")
    with pytest.raises(ThawError, match="the class 'bird' has 2 photographs: too few"):
        photographs.prepare(str(mine))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"found: 18 photographs of 3 classes in {mine}", "  classes: bird 2, cat 8, dog 8"]
    assert lines[2].startswith("  warning: pictures with the name of another one and a word, such as bird/1_mask")


def test_a_column_that_may_group_photographs_is_said_unless_it_is_used(project, capsys):
    mine = classes(project.parent / "mine", 12)
    rows = [f"{label}/{n}.png,{label},{label}{n // 2}" for label in ("cat", "dog") for n in range(12)]
    (mine / "labels.csv").write_text("\n".join(["path,label,meta_patient", *rows]))
    photographs.prepare(str(mine / "labels.csv"))
    warning = "  warning: meta_patient has 12 values for 24 photographs. If those of one value belong together, set "
    assert f"{warning}split.group: meta_patient; else" in capsys.readouterr().out
    text = Path("params.yaml").read_text()
    assert text.count("\n  group: null") == 1
    Path("params.yaml").write_text(text.replace("\n  group: null", "\n  group: meta_patient"))
    photographs.prepare(str(mine / "labels.csv"))
    output = capsys.readouterr().out
    assert "meta_patient has" not in output
    assert "  groups of meta_patient: 12, never divided; the largest, cat0, has 2\n" in output


@pytest.mark.parametrize("where", ["data/raw", "data", ".", "data/raw/mine", "models/backbone"])
def test_what_dvc_would_delete_is_refused(where, project):
    classes(project / where)
    with pytest.raises(ThawError, match="DVC would delete photographs there"):
        photographs.prepare(where)


def test_a_link_to_what_dvc_would_delete_is_refused(project):
    classes(project / "data" / "raw")
    (project.parent / "mine").symlink_to(project / "data" / "raw")
    with pytest.raises(ThawError, match="DVC would delete photographs there"):
        photographs.prepare("../mine")


def test_a_table_of_what_dvc_would_delete_is_refused(project):
    classes(project / "data" / "raw")
    rows = [f"{path},{path.parent.name}" for path in sorted((project / "data").rglob("*.png"))]
    (project.parent / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(ThawError, match="DVC would delete photographs there"):
        photographs.prepare("../labels.csv")


def test_a_folder_of_the_project_that_no_stage_writes_is_allowed(project):
    photographs.prepare(str(classes(project / "photographs").name))
    assert settings()["download.folder.path"] == str(project / "photographs")


def test_parameters_that_do_not_fit_the_classes_are_found_before_anything_is_written(project):
    edit(evaluate__threshold="recall:0.95")
    before = Path("params.yaml").read_bytes()
    with pytest.raises(ThawError, match=r"evaluate\.threshold"):
        photographs.prepare(str(classes(project.parent / "mine", names=("a", "b", "c"))))
    assert Path("params.yaml").read_bytes() == before


def test_many_classes_are_counted_and_few_of_them_named(project, monkeypatch, capsys):
    monkeypatch.setattr(summary, "MANY_CLASSES", 20)
    names = tuple(f"class {number:02}" for number in range(21))
    draw(classes(project.parent / "mine", names=names) / "class 00" / "one more.png")
    photographs.prepare("../mine")
    output = capsys.readouterr().out
    assert "found: 169 photographs of 21 classes" in output
    assert "  classes: class 00 9, class 01 8, " in output and "class 11 8 and 9 more\n" in output
    assert "smallest class: class 01 with 8; largest: class 00 with 9" in output
    assert "warning: Thaw was tried with up to 20 classes" in output


def test_thirty_thousand_classes_take_seconds_to_count():
    """One photograph each, as where the label is a name of the photograph."""
    names = [str(number) for number in range(30_000)]
    table = pl.DataFrame({"image_id": names, "label": names, "group": names, "stratum": names})
    table = table.with_columns(own_group=pl.lit(""), subset=pl.lit(""), is_added=pl.lit(False))
    start = time.thread_time()
    with pytest.raises(ThawError, match=r"too few images to split: 1, .*; so it is with 29,999 more classes"):
        splits.draw(table, params.load(ROOT / "params.yaml").split)
    assert time.thread_time() - start < 20


def test_a_photograph_that_is_too_large_is_said_to_be(project, monkeypatch, capsys):
    mine = classes(project.parent / "mine")
    draw(mine / "cat" / "large.png", (100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    photographs.prepare(str(mine))
    assert f"1 cannot be read, such as {mine}/cat/large.png: over 200 megapixels" in capsys.readouterr().out


def test_no_more_photographs_are_opened_than_the_sample(project, monkeypatch):
    mine, opened = classes(project.parent / "mine", count=20), []
    monkeypatch.setattr(survey, "OPENED", 10)
    open_image = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *a: opened.append(path) or open_image(path, *a))
    photographs.prepare(str(mine))
    assert len(set(map(str, opened))) == 10
    assert len({path.parent for path in map(Path, map(str, opened))}) == 2  # spread over all


def test_a_photograph_that_goes_while_it_is_read_is_counted(project, monkeypatch, capsys):
    mine = classes(project.parent / "mine")
    listed = survey.list_photographs

    def then_removed(*arguments):
        listing = listed(*arguments)
        (mine / "cat" / "3.png").unlink()
        return listing

    monkeypatch.setattr(survey, "list_photographs", then_removed)
    photographs.prepare(str(mine))
    assert f"1 cannot be read, such as {mine}/cat/3.png: No such file" in capsys.readouterr().out


def test_a_share_that_goes_away_is_said_and_nothing_is_written(project, monkeypatch):
    mine, before = classes(project.parent / "mine"), Path("params.yaml").read_bytes()

    def lost(path, *_):
        raise OSError(107, "Transport endpoint is not connected", str(path))

    monkeypatch.setattr(Image, "open", lost)
    with pytest.raises(UnreachableError, match="the disk or share that holds it does not answer"):
        photographs.prepare(str(mine))
    assert Path("params.yaml").read_bytes() == before


def test_the_overlay_of_the_solar_cells_is_what_params_yaml_has():
    values = params_edit.read(ROOT / "params.yaml")
    if values["download"]["source"] != "elpv":
        pytest.skip("params.yaml is about other photographs")
    assert not params_edit.apply(values, params_edit.read(ROOT / "recipes" / "elpv.yaml"))


def test_the_script_ends_with_one_line_and_a_status(project):
    command = [sys.executable, ROOT / "src" / "photographs.py", "nowhere"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and not result.stdout
    assert result.stderr == f"thaw: {project}/nowhere does not exist\n"


def test_photographs_that_changed_since_the_run_are_copied_again(fresh, monkeypatch, capfd):
    monkeypatch.chdir(fresh.path)
    monkeypatch.setattr(time_needed, "measure_speed", lambda: SPEED)
    fresh.repro("download")
    photographs.prepare("photographs")
    assert "since the last run" not in capfd.readouterr().out
    pixels = np.asarray(Image.open("photographs/blobs/blobs02.png"))
    Image.fromarray(pixels[:-1]).save("photographs/blobs/blobs02.png")
    Path("photographs/blobs/blobs05.jpg").unlink()
    Path("photographs/stripes/blobs03.png").write_bytes(Path("photographs/blobs/blobs03.png").read_bytes())
    photographs.prepare("photographs")
    assert "1 new, 1 gone, 1 changed since the last run: `dvc repro` copies them again" in capfd.readouterr().out
    assert fresh.repro("download") == ["download"]
    assert Image.open(next(Path("data/raw/images").glob("blobs02-*"))).size == pixels[:-1].shape[1::-1]


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*arguments: str, cwd: Path) -> list[str]:
    """Run make as from a terminal, even if make has started the tests; return the lines of its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    result = subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, check=True)
    return result.stdout.decode().splitlines()


@pytest.mark.parametrize(
    "path", ["my photos", "it's", 'say "x"', "a$b $(c) ${d}", "`x`; exit 3", "日本#1", "a,b)c(", ""]
)
def test_make_hands_the_path_over_as_it_was_typed(path, tmp_path):
    show = f'@{sys.executable} -c "import os; print(os.environb[bytes([80,72,79,84,79,83])])"'
    text = MAKEFILE.replace("repro: setup", "repro:").replace("$(RUN) src/photographs.py", show)
    assert text.count(show) == 1
    text = text.replace("\t$(RUN) -m dvc repro\n", "\t@echo repro\n", 1)
    text = text.replace("\t@$(RUN) src/result.py\n", "\t@echo result\n")
    (tmp_path / "Makefile").write_text(text, encoding="utf-8")
    assert make("repro", f"PHOTOS={path}", cwd=tmp_path) == [repr(os.fsencode(path)), "repro", "result"]


def test_make_without_photographs_only_runs_the_pipeline():
    lines = make("-n", "repro", cwd=ROOT)
    assert not [line for line in lines if "photographs.py" in line]
    assert lines[-2:] == [".venv/bin/python -m dvc repro", ".venv/bin/python src/result.py"]


def test_packages_are_put_into_the_environment_of_the_project_whatever_other_one_is_active():
    """uv takes `VIRTUAL_ENV`, and would remove what is installed there."""
    paths = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    documented = [path.read_text(encoding="utf-8") for path in paths]
    lines = [line for text in (MAKEFILE, *documented) for line in text.splitlines() if "uv pip " in line]
    changing = [line for line in lines if re.search(r"uv pip (sync|install) ", line)]
    assert len(changing) >= 5 and all("--python " in line for line in changing)
