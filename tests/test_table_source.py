"""The source `table`: photographs listed with their labels in CSV, Parquet or JSON lines, as people export them."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from test_folder import contents, draw

from thaw.core.errors import ThawError
from thaw.sources import collection, folder, table
from thaw.sources.base import ChangedError, UnreachableError
from thaw.sources.collection import collect
from thaw.sources.folder import Folder
from thaw.sources.table import Table

ROOT = Path(__file__).parents[1]
NAMES = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(4)]
ROWS = [(name, name[:3]) for name in NAMES]


@pytest.fixture
def mine(tmp_path) -> Path:
    """A folder with four photographs of each of two classes."""
    for name in NAMES:
        draw(tmp_path / "mine" / name)
    return tmp_path / "mine"


def as_csv(rows: list[tuple], header: str = "path,label", delimiter: str = ",", end: str = "\n") -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return file.getvalue()


def with_column(name: str, values: list) -> str:
    rows = [(*row, values[i % len(values)]) for i, row in enumerate(ROWS)]
    return as_csv(rows, f"path,label,{name}")


def find(mine: Path, content: str | bytes, name: str = "labels.csv", **columns: str):
    (mine / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return table.find(
        Table(
            path=str(mine / name),
            **{"path_column": "path", "label_column": "label", "label_separator": ";", "unlisted": None} | columns,
        )
    )


def take(mine: Path, *arguments, **columns) -> tuple[pl.DataFrame, pl.DataFrame]:
    return collect(find(mine, *arguments, **columns), mine.parent / "raw")


def refusal(mine: Path, *arguments, **columns) -> str:
    with pytest.raises(ThawError) as caught:
        take(mine, *arguments, **columns)
    assert "\n" not in str(caught.value) and not (mine.parent / "raw/images.csv").exists()
    return str(caught.value)


# What it takes


def test_photographs_have_the_ids_and_rows_that_the_folder_source_gives_them(mine, tmp_path):
    images, missing = take(mine, as_csv(ROWS))
    by_folder, _ = collect(folder.find(Folder(path=str(mine))), tmp_path / "by folder")
    assert images.drop("source").equals(by_folder.drop("source")) and len(images) == 8
    assert missing["reason"].to_list() == [] and set(images["source"]) == {"table"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("excel.csv", "\ufeff" + as_csv(ROWS, delimiter=";", end="\r\n")),
        ("for excel.csv", "sep=;\r\n" + as_csv(ROWS, delimiter=";", end="\r\n")),
        ("after a blank line.csv", "\nsep=;\n" + as_csv(ROWS, delimiter=";")),
        ("tabs.tsv", as_csv(ROWS, delimiter="\t")),
        ("SHOUTED.CSV", as_csv(ROWS, "PATH,Label")),
        ("spaced.csv", as_csv([(f" {path} ", f"{label} ") for path, label in ROWS], " path,label ")),
        ("blank lines.csv", as_csv(ROWS).replace("\n", "\n\n") + ",\n"),
        ("quoted.csv", as_csv(ROWS).replace("cat/0.png,cat", '"cat/0.png","cat"')),
        ("lines.jsonl", "\n".join(json.dumps(dict(zip(("path", "label"), row, strict=True))) for row in ROWS)),
        ("lines.ndjson", "".join(json.dumps({"label": label, "path": path}) + "\r\n" for path, label in ROWS)),
    ],
)
def test_tables_are_read_as_programs_write_them(name, content, mine):
    images, missing = take(mine, content, name)
    assert images["label"].to_list() == [image_id_label[1] for image_id_label in sorted(ids(ROWS))]
    assert not len(missing)


def ids(rows: list[tuple]) -> list[tuple[str, str]]:
    return [(folder.image_id(path, 8), label) for path, label in rows]


def test_a_table_of_several_labels_says_so_where_each_photograph_has_one(mine):
    rows = [(name, ("a;b", "a", "b", "a")[i % 4], i % 2) for i, name in enumerate(NAMES)]
    listing = find(mine, "path,label,value\n" + "\n".join(",".join(map(str, row)) for row in rows))
    (warning,) = listing.warnings
    assert (
        warning == "taken as one class: 'a;b' beside 'a' and 'b'; with task: multi a photograph may have several labels"
    )
    assert listing.notes == ("ignored columns: value (only for task: multi)",)
    with pytest.raises(ThawError, match="can have only one label; with task: multi it may have several"):
        find(mine, f"path,label\n{NAMES[0]},a\n{NAMES[0]},b\n{NAMES[1]},a\n{NAMES[2]},b\n")


def test_parquet_is_read_and_what_is_no_text_is_ignored_unless_it_is_needed(mine):
    columns = {"path": NAMES, "label": [0.0, 1.0] * 4, "thumbnail": [b"x"] * 8, "boxes": [[1, 2]] * 8}
    columns |= {"exposure": [timedelta(seconds=1)] * 8}
    pl.DataFrame(columns).write_parquet(mine / "p.parquet")
    listing = find(mine, (mine / "p.parquet").read_bytes(), "labels.parquet")
    assert listing.info.classes == ("0", "1")
    assert listing.notes == ("ignored columns: thumbnail, boxes, exposure",)
    content = (mine / "p.parquet").read_bytes()
    assert "'boxes' holds lists" in refusal(mine, content, "labels.parquet", label_column="boxes")


def test_other_names_of_the_two_columns_can_be_set(mine):
    images, _ = take(mine, as_csv(ROWS, "File,breed"), path_column="file", label_column="breed")
    assert len(images) == 8


def test_paths_may_be_absolute_or_from_home_or_written_on_windows(mine, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    here, there = ROWS[:4], ROWS[4:]
    rows = [(str(mine / path), label) for path, label in here] + [("~/mine/" + path, label) for path, label in there]
    images, _ = take(mine, as_csv(rows))
    assert sorted(images["image_id"]) == sorted(image_id for image_id, _ in ids(ROWS))
    listing = find(mine, as_csv([(path.replace("/", "\\"), label) for path, label in ROWS]))
    assert not any(image.left_out for image in listing.images)
    assert listing.notes == ("8 paths with \\ are read with /",)


def test_paths_may_be_addresses_of_files_have_variables_or_quotes(mine, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    forms = [f"file://{mine}/{{}}", "$HOME/mine/{}", "'{}'", "${{HOME}}/mine/{}"]
    rows = [(forms[i % len(forms)].format(path), label) for i, (path, label) in enumerate(ROWS)]
    images, _ = take(mine, as_csv(rows))
    assert sorted(images["image_id"]) == sorted(image_id for image_id, _ in ids(ROWS))


def test_photographs_elsewhere_have_ids_without_the_path_of_this_machine(mine, tmp_path):
    (tmp_path / "tables").mkdir()
    rows = [("../mine/" + path, label) for path, label in [*ROWS, ("cat/gone.png", "cat")]]
    images, missing = collect(find(tmp_path / "tables", as_csv(rows)), tmp_path / "raw")
    assert len(images) == 8 and missing["file"].to_list() == ["…/cat/gone.png"]
    shutil.move(mine, tmp_path / "tables/moved")
    moved = [("moved/" + path, label) for path, label in ROWS]
    (tmp_path / "elsewhere").mkdir()
    again = find(tmp_path / "elsewhere", as_csv([(str(tmp_path / "tables" / path), label) for path, label in moved]))
    assert sorted(image.image_id for image in again.images) == images["image_id"].to_list()
    for file in (tmp_path / "raw").glob("*.*"):
        assert str(tmp_path) not in file.read_text()


def test_split_group_weight_and_meta_columns_become_those_of_the_images(mine):
    rows = [
        (path, label, ("Training", "VAL", "testing", "")[i % 4], f"g{i // 2}", ("0,5", "", "2", "0")[i % 4], "x", "y")
        for i, (path, label) in enumerate(ROWS)
    ]
    listing = find(mine, as_csv(rows, "path,label,Split,group,weight,meta_camera,notes", ";"))
    images, _ = collect(listing, mine.parent / "raw")
    assert listing.notes == ("ignored columns: notes",)
    columns = images.filter(label="cat").sort("meta_group", "weight")
    assert sorted(columns["meta_subset"]) == ["", "test", "train", "validation"]
    assert columns.select("meta_group", "weight", "meta_camera").rows() == [
        ("g0", 0.5, "x"), ("g0", 1.0, "x"), ("g1", 0.0, "x"), ("g1", 2.0, "x"),
    ]  # fmt: skip
    assert not {"meta_group", "meta_subset"} & set(collect(find(mine, as_csv(ROWS)), mine / "raw")[0].columns)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 9], ("9", "10")),
        (["10.0", "9.0"], ("9", "10")),
        (["10.0", "9.5"], ("9.5", "10.0")),
        (["0010", "009"], ("009", "0010")),
        (["010", "10"], ("010", "10")),
        (["1", "1,000", "5"], ("1", "1,000", "5")),
        (["1.1", "1.10"], ("1.1", "1.10")),
        (["115.0", "11.05"], ("11.05", "115.0")),
        ([True, False], ("False", "True")),
        (["b", "10"], ("10", "b")),
    ],
)
def test_labels_that_are_numbers_are_classes_in_their_order(labels, classes, mine):
    assert find(mine, with_column("class", labels), label_column="class").info.classes == classes


def test_every_row_that_adds_no_photograph_is_listed_with_its_reason(mine):
    (mine / "cat/broken.png").write_text("no image")
    extra = [("./dog/../cat/0.png", "cat"), (str(mine / "cat/0.png"), "cat"), ("cat/gone.png", "cat"), ("", "dog")]
    extra += [("cat/broken.png", "cat"), ("dog/0.png", ""), ("cat", "cat"), ("dog/new.png", "")]
    images, missing = take(mine, as_csv([*ROWS, *extra]))
    assert len(images) == 8 and len(missing) == len(extra)
    assert missing.select("file", "reason").sort("file", "reason").rows() == [
        ("cat", "not a file"),
        ("cat/0.png", "listed more than once: its first line counts"),
        ("cat/0.png", "listed more than once: its first line counts"),
        ("cat/broken.png", "not an image that can be read"),
        ("cat/gone.png", "no such file"),
        ("dog/0.png", "no label in the table"),
        ("dog/new.png", "no label in the table"),
        ("line 13", "no path in the table"),
    ]


def test_the_order_of_the_rows_does_not_matter(mine, tmp_path):
    collect(find(mine, as_csv([*ROWS, ("cat/gone.png", "cat")])), tmp_path / "a")
    collect(find(mine, as_csv([("cat/gone.png", "cat"), *ROWS[::-1]])), tmp_path / "b")
    for name in ("images.csv", "missing.csv", "source.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_table_and_photographs_are_left_as_they_are(mine):
    (mine / "labels.csv").write_text(as_csv(ROWS))
    before = contents(mine)
    collect(
        table.find(
            Table(
                path=str(mine / "labels.csv"),
                path_column="path",
                label_column="label",
                label_separator=";",
                unlisted=None,
            )
        ),
        mine / "../raw",
    )
    assert contents(mine) == before


# What fails

LISTS = "\n".join(json.dumps({"path": path, "label": [label]}) for path, label in ROWS)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "labels.csv", "is empty"),
        (" \n", "labels.csv", "is empty"),
        ("path,label\n", "labels.csv", "has no row below its column names"),
        ("sep=;\n", "labels.csv", "has no column names"),
        (as_csv(ROWS, "paths,class"), "labels.csv", "no column 'path' (did you mean paths?): rename the one with"),
        (as_csv(ROWS, "path,class"), "labels.csv", "no column 'label' (valid: path, class): rename the one"),
        (as_csv(ROWS[1:], "cat/0.png,cat"), "labels.csv", "The first line of a CSV names its columns"),
        (as_csv(ROWS, "PATH,Path"), "labels.csv", "has the columns PATH and Path: one of them should be 'path'"),
        (as_csv([(*row, 1) for row in ROWS], "path,label,label"), "labels.csv", "has two columns 'label'"),
        (b"PK\x03\x04...", "labels.zip", "is a zip archive or a workbook of a spreadsheet: unpack it, or save"),
        (b"PK\x03\x04...", "labels.csv", "is a zip archive or a workbook"),
        ("a table", "labels.txt", "is not a table by its ending, which should be one of .csv, .tsv, .parquet"),
        (as_csv(ROWS).encode("utf-16"), "labels.csv", "is UTF-16: save it as CSV in UTF-8"),
        (as_csv([*ROWS, ("ä.png", "cat")]).encode("latin-1"), "labels.csv", "is not UTF-8 (line 10): save it in UTF-8"),
        (as_csv(ROWS) + "a, b.png,cat\n", "labels.csv", "line 10 has 3 values, the first line names 2 columns"),
        (as_csv(ROWS) + '"a.png,cat\n', "labels.csv", "not a readable CSV table: line 10: unexpected end of data"),
        ("PAR1", "labels.parquet", "is not a readable Parquet table ("),
        (json.dumps([{"path": "a", "label": "b"}]), "labels.jsonl", "line 1 is not an object such as"),
        ('{"path": "a"}\n{"path"', "labels.jsonl", "line 2 is not JSON"),
        ('{"path": "a", "label": "\\ud800b"}', "labels.jsonl", "line 1 has half a character (a lone surrogate)"),
        ('{"path": "a", "label": "\\udcff"}\n{"path": "b", "label": "b"}', "labels.jsonl", "has half a character"),
        ('{"path": "a", " path": "b"}', "labels.jsonl", "line 1 has two names that differ in spaces alone: path, "),
        (LISTS, "labels.jsonl", "'label' holds lists, objects or bytes: each row needs one text"),
        (with_column("split", ["train", "holdout"]), "labels.csv", "line 3: split should be train, validation"),
        (with_column("weight", [1, -1]), "labels.csv", "line 3: weight should be a number from 0, not '-1'"),
        (with_column("weight", ["1_000"]), "labels.csv", "line 2: weight should be a number from 0, not '1_000'"),
        (with_column("weight", ["nan"]), "labels.csv", "line 2: weight should be a number from 0, not 'nan'"),
        (with_column("weight", ["1,500"]), "labels.csv", "line 2: the weight '1,500' may be 1500 or 1.500: write"),
        (with_column("weight", ["inf"]), "labels.csv", "line 2: weight should be a number from 0, not 'inf'"),
        (with_column("weight", [1, 1, 1, 1, 0, 0, 0, 0]), "labels.csv", "class 'dog' have the weight 0"),
        (as_csv([*[(*row, 0 if row[1] == "dog" else 1) for row in ROWS], ("gone.png", "dog", 1)], "path,label,weight"),
         "labels.csv", "class 'dog' have the weight 0"),
        (with_column("meta_subset", ["train"]), "labels.csv", "column meta_subset means something else in Thaw"),
        (as_csv([(path, ["1", "1.0", "1.5"][i % 3]) for i, path in enumerate(NAMES)]), "labels.csv",
         "the labels '1' and '1.0' are the same number: write it in one way"),
        (as_csv([(path, ["1", "1.0", "1,000"][i % 3]) for i, path in enumerate(NAMES)]), "labels.csv",
         "the labels '1' and '1.0' are the same number: write it in one way"),
        (as_csv([(path, "cat") for path in NAMES]), "labels.csv", "holds one class, 'cat': at least two"),
        (as_csv([(path, "") for path in NAMES]), "labels.csv", "holds no photograph with a label: at least two"),
        (as_csv([*ROWS, ("cat/0.png", "dog")]), "labels.csv", "lists cat/0.png with the label 'cat' in line 2"),
        (as_csv([*ROWS, ("cat/9.png", "a\u2028b")]), "labels.csv", "'a\\u2028b' cannot be printed on one line"),
        (as_csv([*ROWS, ("gone.png", "emu")]), "labels.csv", "class 'emu' is there; the first is gone.png in line 10"),
        (as_csv([(path, i) for i, path in enumerate(NAMES)]), "labels.csv", "each of the 8 labels of the column"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong_and_where(content, name, message, mine):
    text = refusal(mine, content, name)
    assert text.startswith(f"download.table.path {mine / name}") and message in text


def test_measurements_are_no_classes(mine):
    text = refusal(mine, as_csv([(f"{number}.png", number / 7) for number in range(30)]))
    assert "the column 'label' has 30 different numbers, such as 0.14" in text and "should name a class" in text


def test_words_for_an_empty_value_are_no_group_and_a_class_of_such_a_name_is_pointed_at(mine):
    listing = find(mine, with_column("group", ["NA", "a", "nan", "None"]))
    assert {image.meta["group"] for image in listing.images} == {"", "a"}
    assert "6 groups count as empty: NA, None, nan" in listing.notes
    listing = find(mine, as_csv([(path, label.replace("dog", "nan")) for path, label in ROWS]))
    assert "nan counts as a class: if it says that the label is missing, empty it" in listing.warnings


def test_groups_that_are_the_same_number_are_one(mine):
    rows = [{"path": path, "label": label, "group": [12, 12.0, 13][i % 3]} for i, (path, label) in enumerate(ROWS)]
    listing = find(mine, "\n".join(map(json.dumps, rows)), "labels.jsonl")
    assert {image.meta["group"] for image in listing.images} == {"12", "13"}


def test_rows_of_a_photograph_that_differ_in_what_is_known_of_it_are_counted(mine):
    rows = [(*row, "p1") for row in [*ROWS, ROWS[0], ROWS[1]]]
    rows[-2] = (*ROWS[0], "p2")
    listing = find(mine, as_csv(rows, "path,label,meta_patient"))
    said = "1 values of meta_patient differ from those of the photograph's first line, which counts"
    assert said in listing.warnings
    weights = as_csv([(*row, i) for i, row in enumerate([*ROWS, ROWS[0]])], "path,label,weight")
    assert "lists cat/0.png with the weight 0.0 in line 2 and 8.0 in line 10" in refusal(mine, weights)


def test_a_split_or_group_that_contradicts_another_row_is_named(mine):
    for column in ("split", "group"):
        rows = [(*row, "train") for row in [*ROWS, ROWS[0]]]
        rows[-1] = (*ROWS[0], "test")
        text = refusal(mine, as_csv(rows, f"path,label,{column}"))
        assert f"lists cat/0.png with the {column} 'train' in line 2 and 'test' in line 10" in text


def test_a_table_whose_paths_are_mostly_wrong_says_where_they_were_looked_for(mine):
    rows = [(path if path == "dog/0.png" else f"photos/{path}", label) for path, label in ROWS]
    text = refusal(mine, as_csv(rows))
    assert "7 of its 8 photographs are not there, over half of them; the first is photos/cat/0.png in line 2" in text
    assert text.endswith(f"{mine} has cat/0.png: write the paths like this")
    elsewhere = [(f"photos/{label}-{number}.png", label) for number, (_, label) in enumerate(ROWS)]
    assert refusal(mine, as_csv(elsewhere)).endswith(f"Paths are relative to {mine}")


def test_mostly_damaged_photographs_are_refused(mine):
    for name in NAMES:
        if not name.endswith("0.png"):
            (mine / name).write_text("no image")
    text = refusal(mine, as_csv(ROWS))
    assert text.startswith("6 of 8 photographs cannot be read, over half of them; the first is ")
    assert text.endswith("/cat/1.png (not an image that can be read)")


def test_a_table_that_is_missing_or_a_folder_is_named(mine):
    for name, message in (("gone.csv", "cannot be read: No such file"), ("cat", "is a folder, not a table: set downl")):
        with pytest.raises(ThawError, match=message):
            table.find(
                Table(
                    path=str(mine / name), path_column="path", label_column="label", label_separator=";", unlisted=None
                )
            )


# What changes, or goes away, while it is read


def listings(mine: Path) -> list:
    return [find(mine, as_csv(ROWS)), folder.find(Folder(path=str(mine)))]


@pytest.mark.parametrize("source", [0, 1])
def test_a_photograph_that_is_removed_while_they_are_read_is_an_error(source, mine):
    listing = listings(mine)[source]
    (mine / "cat/2.png").unlink()
    with pytest.raises(ChangedError, match=r"cat/2.png was removed while the photographs were read: run again"):
        collect(listing, mine.parent / "raw")


@pytest.mark.parametrize("source", [0, 1])
def test_a_photograph_that_changes_while_it_is_copied_is_an_error(source, mine, monkeypatch):
    copy = collection.clone

    def write_meanwhile(original: Path, target: Path) -> None:
        copy(original, target)
        if original.name == "2.png":
            original.write_bytes(original.read_bytes() + b"more")

    monkeypatch.setattr(collection, "clone", write_meanwhile)
    with pytest.raises(ChangedError, match=r"2.png changed while the photographs were read: run again when nothing"):
        collect(listings(mine)[source], mine.parent / "raw")


@pytest.mark.parametrize("source", [0, 1])
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file whose reading fails is Linux' own")
def test_a_disk_that_fails_is_an_error_and_no_reason_to_leave_photographs_out(source, mine):
    (mine / "cat/2.png").unlink()
    (mine / "cat/2.png").symlink_to("/proc/self/mem")  # reading it fails with EIO, as a bad disk does
    with pytest.raises(UnreachableError, match=r"cat/2.png cannot be read \(Input/output error\): the disk or share"):
        collect(listings(mine)[source], mine.parent / "raw")


@pytest.fixture
def dead_share(tmp_path) -> Path:
    """A share that was mounted and whose server is gone: a FUSE file system without the process behind it."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    path = tmp_path / "share"
    path.mkdir()
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"/dev/fuse cannot be opened: {error}")
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    failed = libc.mount(b"fuse", os.fsencode(path), b"fuse", 0, options.encode())
    os.close(device)
    if failed:
        pytest.skip(f"a FUSE file system cannot be mounted: {os.strerror(ctypes.get_errno())}")
    yield path
    libc.umount2(os.fsencode(path), 2)  # 2: MNT_DETACH


def run_stage(folder: Path, source: str, path: Path) -> subprocess.CompletedProcess:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["download"]["source"] = source
    values["download"][source]["path"] = str(path)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    command = [sys.executable, ROOT / "src/download.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_share_that_has_gone_away_is_one_line_and_nothing_is_half_written(dead_share, mine, tmp_path):
    (mine / "labels.csv").write_text(as_csv([*ROWS, (str(dead_share / "cat/9.png"), "cat")]))
    process = run_stage(tmp_path, "table", Path("mine/labels.csv"))
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == (
        f"thaw: {dead_share}/cat/9.png cannot be read (Transport endpoint is not connected): the disk or share that "
        "holds it does not answer; run again when it is back\n"
    )
    assert not (tmp_path / "data").exists()
    for find, section in (
        (
            table.find,
            Table(
                path=str(dead_share / "labels.csv"),
                path_column="path",
                label_column="label",
                label_separator=";",
                unlisted=None,
            ),
        ),
        (folder.find, Folder(path=str(dead_share))),
        (folder.find, Folder(path=str(dead_share / "photographs"))),
    ):
        with pytest.raises(UnreachableError, match="the disk or share that holds it does not answer"):
            find(section)


# The stages


def test_the_stages_say_what_they_took_and_keep_the_split_of_the_table(mine, tmp_path):
    names = ["train"] * 2 + ["validation", "test"]
    rows = [(*row, names[i % 4], f"{row[1]}{i}", i) for i, row in enumerate([*ROWS])]
    (mine / "labels.csv").write_text(as_csv([*rows, ("cat/9.png", "cat", "", "", "")], "path,label,split,group,remark"))
    process = run_stage(tmp_path, "table", Path("mine/labels.csv"))
    assert process.stderr == "" and process.stdout == (
        "download: 8 photographs from table: 4 cat, 4 dog; 1 left out (1 no such file), listed in "
        "data/raw/missing.csv; ignored columns: remark\n"
    )
    assert json.loads((tmp_path / "data/raw/source.json").read_text())["classes"] == ["cat", "dog"]
    split = subprocess.run(
        [sys.executable, ROOT / "src/split.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert split.returncode == 0, split.stderr
    images = pl.read_csv(tmp_path / "data/raw/images.csv").select("image_id", "meta_subset")
    table = pl.read_csv(tmp_path / "data/split.csv").join(images, on="image_id")
    assert table["split"].to_list() == table["meta_subset"].to_list() and len(table) == 8


def test_a_label_of_its_own_for_each_of_30_000_photographs_is_refused_before_one_is_looked_for(mine):
    text = refusal(mine, as_csv([(f"{number}.jpg", f"id {number}") for number in range(30_000)]))
    assert "each of the 30,000 labels of the column 'label' is there only once, such as 'id 0'" in text
