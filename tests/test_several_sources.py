"""Photographs with several labels each: what a table, Open Images and FiftyOne say of them, and what is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import yaml
from replica import Data, Replica
from test_folder import draw
from test_open_images import ALPACA, CLASSES, GOAT, SHEEP, ids, labels, parameters

from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.sources import fiftyone_dataset, fiftyone_several, open_images_several, several_labels, table_several
from thaw.sources.base import Known, SourceImage
from thaw.sources.collection import collect
from thaw.sources.fetching import Fetcher
from thaw.sources.fiftyone_dataset import FiftyOne
from thaw.sources.table import Table

ROOT = Path(__file__).parents[1]
NAMES = [f"{number}.png" for number in range(8)]


@pytest.fixture
def mine(tmp_path) -> Path:
    for name in NAMES:
        draw(tmp_path / "mine" / name)
    return tmp_path / "mine"


def find(mine: Path, content: str, **changes):
    (mine / "labels.csv").write_text(content)
    values = {"path_column": "path", "label_column": "label", "label_separator": ";", "unlisted": "absent"}
    return table_several.find(Table(path=str(mine / "labels.csv"), **values | changes))


def known(listing) -> dict[str, dict[str, bool]]:
    """By file: what is known of each class."""
    return {image.file: {k.label: k.is_present for k in image.known} for image in listing.images if not image.left_out}


def wide(*cells: str, header: str = "path,label") -> str:
    return f"{header}\n" + "\n".join(f"{name},{cell}" for name, cell in zip(NAMES, cells, strict=False)) + "\n"


FULL = wide("cat;dog", "cat", "dog", "", "cat; dog", "cat", "dog", "")


# A table


def test_labels_of_a_cell_are_present_and_the_others_absent_where_all_are_listed(mine):
    listing = find(mine, FULL)
    assert listing.info.classes == ("cat", "dog")
    assert known(listing)["0.png"] == {"cat": True, "dog": True}
    assert known(listing)["1.png"] == {"cat": True, "dog": False}
    assert known(listing)["3.png"] == {"cat": False, "dog": False}
    assert [image.label for image in listing.images[:4]] == ["cat + dog", "cat", "dog", ""]
    assert "8 pairs of a photograph and a class are not listed, and taken as absent" in listing.notes


def test_what_is_not_listed_is_unknown_where_a_person_says_so_and_a_column_has_what_is_absent(mine):
    cells = ("cat,dog", "cat,", "dog,cat", ",cat;dog", "cat,dog", "dog,cat", "dog,", ",")
    listing = find(mine, wide(*cells, header="path,label,absent"), unlisted="unknown")
    assert known(listing)["1.png"] == {"cat": True}
    assert known(listing)["2.png"] == {"cat": False, "dog": True}
    assert {image.file: image.left_out for image in listing.images if image.left_out} == {
        "7.png": several_labels.NO_KNOWN_LABEL
    }
    assert "2 pairs of a photograph and a class are not listed, and taken as unknown" in listing.notes[0]


def test_a_row_for_each_label_comes_to_the_same_as_a_cell_of_several(mine):
    rows = ["0.png,cat", "0.png,dog", "1.png,cat", "2.png,dog", "3.png,", "4.png,dog", "4.png,cat", "5.png,cat",
            "6.png,dog", "7.png,"]  # fmt: skip
    assert known(find(mine, "path,label\n" + "\n".join(rows) + "\n")) == known(find(mine, FULL))


def test_a_column_of_values_says_what_is_present_absent_or_unknown_and_each_pair_has_its_weight(mine):
    rows = [f"{name},cat,{1 - i % 2},1" for i, name in enumerate(NAMES)]
    rows += [f"{name},dog,{('true', 'no')[i % 2] if i else ''},0.5" for i, name in enumerate(NAMES)]
    listing = find(mine, "path,label,value,weight\n" + "\n".join(rows) + "\n", unlisted="unknown")
    assert known(listing)["0.png"] == {"cat": True}
    assert known(listing)["1.png"] == {"cat": False, "dog": False}
    assert listing.images[1].known == (Known("cat", False, 1.0), Known("dog", False, 0.5))
    assert "present or absent is what the column 'value' says, which 1 rows leave empty: unknown" in listing.notes


def test_a_pair_that_is_called_unknown_is_unknown_where_the_others_are_absent(mine):
    rows = [f"{name},{label},{value}" for i, name in enumerate(NAMES)
            for label, value in (("cat", i % 2), ("dog", "" if i < 2 else i // 2 % 2)) if i < 7]  # fmt: skip
    listing = find(mine, "path,label,value\n" + "\n".join([*rows, "7.png,cat,1"]) + "\n")
    assert known(listing)["0.png"] == {"cat": False}
    assert known(listing)["7.png"] == {"cat": True, "dog": False}
    assert listing.notes[0] == "1 pairs of a photograph and a class are not listed, and taken as absent"


def test_what_is_not_listed_weighs_as_much_as_the_rows_of_its_photograph(mine):
    rows = ["0.png,cat,3", "0.png,dog,3", "1.png,cat,3", "1.png,dog,2"]
    rows += [
        f"{name},{label},1" for name, label in zip(NAMES[2:], ["cat;emu", "dog;emu", "emu", "", "", ""], strict=True)
    ]
    images = find(mine, "path,label,weight\n" + "\n".join(rows) + "\n").images
    assert [image.known[2] for image in images[:2]] == [Known("emu", False, 3.0), Known("emu", False, 1.0)]


def test_cells_with_another_separator_are_a_warning_and_so_are_names_in_two_unicode_forms(mine):
    rows = [f"{name},caf\u00e9|dog" for name in NAMES[:2]] + ["2.png,cafe\u0301|dog"]
    rows += [f"{name},caf\u00e9" for name in NAMES[3:6]] + [f"{name},dog" for name in NAMES[5:]]
    listing = find(mine, "path,label\n" + "\n".join(rows) + "\n")
    assert listing.warnings == (
        "taken as one class: 'caf\u00e9|dog' beside 'caf\u00e9' and 'dog'; download.table.label_separator is ';'",
    )
    assert "names in two Unicode forms are one class: caf\u00e9|dog" in listing.notes


@pytest.mark.parametrize(("unlisted", "what"), [("absent", "present"), ("unknown", "known")])
def test_a_word_for_an_empty_cell_is_a_class_with_a_warning(mine, unlisted, what):
    listing = find(mine, wide(*["cat,None"] * 3, *["None,cat"] * 5, header="path,label,absent"), unlisted=unlisted)
    assert listing.info.classes == ("None", "cat")
    assert listing.warnings == (f"None counts as a class: if it says that no class is {what}, empty it",)


def test_rows_of_a_photograph_that_differ_in_meta_are_a_warning(mine):
    rows = ["0.png,cat,north", "0.png,dog,south", *(f"{name},cat,north" for name in NAMES[1:4])]
    rows += [f"{name},dog,north" for name in NAMES[4:]]
    listing = find(mine, "path,label,meta_place\n" + "\n".join(rows) + "\n")
    said = "1 values of meta_place differ from those of the photograph's first line, which counts"
    assert listing.warnings == (said,)


def test_a_column_that_looks_like_a_split_is_a_warning(mine):
    rows = [f"{name},{label},{part}" for name, label, part in zip(NAMES, "abbacbac", ["train", "val"] * 4, strict=True)]
    rows += ["0.png,b,train", "1.png,c,val"]
    listing = find(mine, "path,label,subset\n" + "\n".join(rows) + "\n")
    assert "subset looks like a split, and is not used: the column should be called split" in listing.warnings


def test_photographs_of_which_nothing_is_known_count_in_no_pair_that_is_not_listed(mine):
    rows = [f"{name},{label},{i // 3 if i < 6 else ''}" for i, name in enumerate(NAMES) for label in ("cat", "dog")]
    listing = find(mine, "path,label,value\n" + "\n".join(rows) + "\n")
    assert [image.left_out for image in listing.images[6:]] == [several_labels.NO_KNOWN_LABEL] * 2
    assert listing.notes[0] == "0 pairs of a photograph and a class are not listed, and taken as absent"


def test_whole_numbers_are_one_class_however_a_program_wrote_them(mine):
    cells = ("1;2,3", "1.0;2,", "1,2.0", "2,1", "3,1", "3.0,1.0;2", "3,2", "1.0;1,3.0")
    listing = find(mine, wide(*cells, header="path,label,absent"))
    assert listing.info.classes == ("1", "2", "3")
    assert known(listing)["5.png"] == {"1": False, "2": False, "3": True}
    assert known(listing)["7.png"] == {"1": True, "2": False, "3": False}


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (wide("1;1.5", "1.0", *["1.5"] * 6), {}, "the labels '1' and '1.0' are the same number: write it in one way"),
        (wide("ER +", *["PR"] * 7), {}, "the label 'ER +' begins or ends with a + that stands alone: ' + ' joins sev"),
        (wide("+ PR", *["PR"] * 7), {}, "the label '+ PR' begins or ends with a + that stands alone"),
        (wide(*["cat,dog"] * 4, *["dog,cat"] * 2, ",cat", "cat,cat", header="path,label,absent"), {},
         "lists 'cat' of 7.png as present in line 9 and as absent in line 9"),
        ("path,label,value\n0.png,cat,1\n0.png,dog,1\n0.png,cat,0\n", {},
         "lists 'cat' of 0.png as present in line 2 and as absent in line 4: only one can be right"),
        ("path,label,weight\n0.png,cat;dog,1\n0.png,cat,2\n", {}, "the weight 1 in line 2 and 2 in line 3"),
        ("path,label,value\n0.png,cat,maybe\n", {}, "line 2: value should be 1 (present), 0 (absent) or empty"),
        (wide(*["cat;dog"] * 8), {}, "no photograph is known not to show the class 'cat': 3 or more are needed"),
        (wide(*["cat;dog", "cat", "dog"] * 2, "", ""), {"unlisted": "unknown"},
         "no photograph is known not to show the class 'cat': 3 or more are needed, to train, validate and test; "
         "unlisted classes are unknown (download.table.unlisted)"),
        (wide("cat|dog", "cat", "dog", "", "cat", "cat", "dog", ""), {},
         "only 1 photograph is known to show the class 'cat|dog': 3 or more are needed, to train, validate and test; "
         "is 'cat|dog' one class? download.table.label_separator is ';'"),
        (wide(*[""] * 8), {}, "holds no label: at least one class is needed"),
        (wide("a + b", *["cat"] * 7), {}, "the label 'a + b' has ' + ' in it, which joins several"),
        ("path,label,split\n0.png,cat,train\n0.png,dog,test\n", {}, "with the split 'train' in line 2 and 'test' in"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong_with_a_table(mine, content, changes, message):
    with pytest.raises(ThawError) as error:
        find(mine, content, **changes)
    assert message in str(error.value)


def test_one_class_alone_is_there_or_not(mine, tmp_path):
    images, _ = collect(find(mine, wide(*["cat"] * 4, *[""] * 4)), tmp_path / "raw")
    values = pl.read_csv(tmp_path / "raw/labels.csv")
    assert set(images["label"]) == {"cat", ""} and values["value"].to_list().count(1) == 4 and len(values) == 8
    with Replica(animals()) as replica:
        listing = select(replica, tmp_path / "cache", classes=["Alpaca"], negatives="verified")
    assert {known for image in listing.images for known in image.known} == {
        Known("Alpaca", True), Known("Alpaca", False),
    }  # fmt: skip


def test_what_is_known_is_written_beside_the_photographs(mine, tmp_path):
    images, missing = collect(find(mine, FULL), tmp_path / "raw")
    written = tables.read(tmp_path / "raw/labels.csv", tables.LABELS, key=("image_id", "label"))
    assert len(images) == 8 and missing.is_empty() and len(written) == 16
    assert written.equals(written.sort("image_id", "label")) and set(written["value"]) == {0, 1}
    of_first = written.filter(pl.col("image_id").str.starts_with("1-"))
    assert dict(of_first.select("label", "value").iter_rows()) == {"cat": 1, "dog": 0}
    assert images.sort("image_id")["label"].to_list()[:4] == ["cat + dog", "cat", "dog", ""]


# Open Images


def animals() -> Data:
    return Data(CLASSES, {"train": [
        *labels("alpaca", 6, (ALPACA, "1"), (SHEEP, "0")), *labels("sheep", 6, (SHEEP, "1"), (ALPACA, "0")),
        *labels("both", 6, (ALPACA, "1"), (SHEEP, "1")), *labels("odd", 4, (ALPACA, "1"), (ALPACA, "0"), (SHEEP, "1")),
        *labels("guess", 4, (ALPACA, "0.7"), (SHEEP, "0.2")), *labels("goat", 4, (GOAT, "1")),
    ]})  # fmt: skip


def select(replica: Replica, folder: Path, **changes):
    chosen = parameters(replica, folder, **{"classes": ["Alpaca", "Sheep"], "negatives": None} | changes)
    return open_images_several.find(chosen, Fetcher(pause=0.01))


def test_open_images_says_what_people_verified_of_each_class(tmp_path):
    with Replica(animals()) as replica:
        listing = select(replica, tmp_path, max_per_class=None)
    found = {image.image_id: {k.label: k.is_present for k in image.known} for image in listing.images}
    assert set(found) == {*ids("alpaca", 6), *ids("sheep", 6), *ids("both", 6), *ids("odd", 4)}
    assert found[ids("alpaca", 1)[0]] == {"Alpaca": True, "Sheep": False}
    assert found[ids("both", 1)[0]] == {"Alpaca": True, "Sheep": True}
    assert found[ids("odd", 1)[0]] == {"Sheep": True}  # what was verified both ways is unknown
    assert listing.notes == ("4 pairs that were verified both ways are taken as unknown",)


def test_a_larger_cap_of_each_class_and_sign_adds_photographs_and_removes_none(tmp_path):
    def taken(most: int) -> tuple[set[str], pl.DataFrame]:
        listing = select(replica, tmp_path / "cache", max_per_class=most)
        images, _ = collect(listing, tmp_path / f"raw{most}")
        return set(images["image_id"]), pl.read_csv(tmp_path / f"raw{most}/labels.csv")

    with Replica(animals()) as replica:
        (fewer, of_fewer), (more, of_more) = taken(3), taken(5)
    assert fewer < more
    counts = of_fewer.group_by("label", "value").len()["len"]
    assert len(counts) == 4 and counts.min() >= 3 and len(of_more) > len(of_fewer)


def test_a_photograph_that_cannot_be_read_is_replaced_for_each_class(tmp_path):
    with Replica(animals(), lambda path, count: "404" if path.endswith(f"{gone}.jpg") else None) as replica:
        gone = "none"
        before, _ = collect(select(replica, tmp_path / "cache", max_per_class=3), tmp_path / "before")
        gone = before["image_id"][0]
        after, missing = collect(select(replica, tmp_path / "other", max_per_class=3), tmp_path / "after")
    assert missing["image_id"].to_list() == [gone] and gone not in set(after["image_id"])
    values = pl.read_csv(tmp_path / "after/labels.csv").group_by("label", "value").len()
    assert len(values) == 4 and values["len"].min() >= 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["Alpaca", "Goat"]}, "no photograph is known not to show the class 'Goat'"),
        ({"classes": ["Alpaca", "Camel"]}, "no photograph is known to show the class 'Camel'"),
        ({"classes": ["Alpaca", "Shepp"]}, "Open Images has no boxable class 'Shepp' (did you mean Sheep"),
        ({"classes": ["Alpaca"], "negatives": ["Goat"]}, "negatives must be null with task: multi"),
    ],
)
def test_one_line_says_what_open_images_lacks(tmp_path, changes, message):
    with Replica(animals()) as replica, pytest.raises(ThawError) as error:
        select(replica, tmp_path, **changes)
    assert message in str(error.value)


# FiftyOne (with a real dataset: test_fiftyone.py)


def test_a_class_in_both_fields_of_a_sample_is_an_error():
    image = SourceImage("a", Path("a.png"), "-", 0.5)
    assert fiftyone_several._known(image, (["cat", None], ["dog"]), "pets: a.png") == {
        "cat": Known("cat", True, 0.5), "dog": Known("dog", False, 0.5),
    }  # fmt: skip
    with pytest.raises(ThawError, match=r"pets: a\.png: the class 'cat' is both present and absent"):
        fiftyone_several._known(image, (["cat"], ["cat"]), "pets: a.png")


@pytest.mark.parametrize("unlisted", ["absent", "unknown"])
def test_a_sample_of_which_no_field_is_set_was_not_labelled_and_is_left_out(monkeypatch, unlisted):
    said = [(["cat"], None), (["cat"], ["dog"]), (["cat"], None), (None, ["cat"]), (["dog"], ["cat"]),
            (["dog"], ["cat"]), (["dog"], None), ([], ["cat", "dog"]), ([], ["dog"]), (None, ["dog"]),
            ([], None), (None, None), (None, None)]  # fmt: skip
    samples = [(f"/pets/{number:02}.png", labels, [], {}) for number, labels in enumerate(said)]
    pets = SimpleNamespace(get_field_schema=lambda **_: ("shown", "absent"))
    opened = pets, SimpleNamespace(Classifications=None), "the FiftyOne dataset 'pets'"
    monkeypatch.setattr(fiftyone_dataset, "open_dataset", lambda params: opened)
    monkeypatch.setattr(fiftyone_dataset, "read_samples", lambda *_: (samples, {}))
    section = FiftyOne(dataset="pets", label_field="shown", absent_field="absent", unlisted=unlisted)
    listing = fiftyone_several.find(section)
    of_empty = "" if unlisted == "absent" else several_labels.NO_KNOWN_LABEL
    left_out = [image.left_out for image in listing.images]
    assert left_out == [""] * 10 + [of_empty] + [fiftyone_dataset.NO_LABEL] * 2
    not_listed = 6 if unlisted == "unknown" else 8
    assert listing.notes == (
        f"{not_listed} pairs of a photograph and a class are not listed, and taken as {unlisted}",
    )  # fmt: skip


# The stage


def stage(folder: Path, **changes) -> subprocess.CompletedProcess:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values |= {"task": changes.pop("task", "multi")}
    values["download"] |= {"source": changes.pop("source", "table")}
    values["download"]["table"] |= {"path": "mine/labels.csv", "unlisted": "absent"} | changes
    values["download"]["folder"] |= {"path": "mine"}
    values["augment"]["preset"] = "upright"
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    command = [sys.executable, str(ROOT / "src/download.py")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_stage_counts_what_is_known_and_says_what_was_assumed(mine, tmp_path):
    (mine / "labels.csv").write_text(FULL)
    result = stage(tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        "download: 8 photographs from table: cat 4 present and 4 absent; dog 4 present and 4 absent; 0% of all pairs "
        "of a photograph and a class are unknown; 8 pairs of a photograph and a class are not listed, and taken as "
        "absent\n"
    )
    assert json.loads((tmp_path / "data/raw/source.json").read_text())["classes"] == ["cat", "dog"]
    first = (tmp_path / "data/raw/labels.csv").read_bytes()
    assert stage(tmp_path).returncode == 0 and (tmp_path / "data/raw/labels.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source": "folder"},
            "task: multi needs a download.source with several labels a photograph (open_images, tab",
        ),
        (
            {"unlisted": None},
            "download.table.unlisted must be chosen with task: multi: absent if each photograph lists",
        ),
    ],
)
def test_a_source_that_does_not_fit_is_one_line(mine, tmp_path, changes, message):
    (mine / "labels.csv").write_text(FULL)
    result = stage(tmp_path, **changes)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and message in result.stderr
    assert not (tmp_path / "data").exists()
