"""Every source lists its images; the collected ones are checked, copied and described."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from dependencies import ROOT, SRC
from PIL import Image

import download
from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.sources import elpv, fiftyone_dataset, folder, own_files
from thaw.sources.base import DatasetInfo, Listing, SourceImage
from thaw.sources.collection import collect
from thaw.sources.elpv import Elpv
from thaw.sources.folder import Folder
from thaw.sources.open_images import OpenImages

INFO = DatasetInfo("test", "CC BY 4.0", "A. Uthor", ("cat", "dog"))


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (6, 9), **options) -> Path:
    """Write a small photograph of noise, (height, width) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix.lower() == ".png" else "JPEG", **options)
    return path


def find(root: Path) -> list[SourceImage]:
    return folder.find(Folder(path=str(root))).images


def listed(root: Path) -> list[tuple[str, str]]:
    return [(p.path.relative_to(root).as_posix(), p.label) for p in find(root)]


def refusal(call, *arguments) -> str:
    with pytest.raises(ThawError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def pets(tmp_path) -> Path:
    """Two photographs of each of two classes."""
    for i, name in enumerate(("cat/a.jpg", "cat/b.jpg", "dog/a.jpg", "dog/b.png")):
        draw(tmp_path / "pets" / name, i)
    return tmp_path / "pets"


@pytest.fixture(scope="module")
def cells() -> dict[float, list[SourceImage]]:
    return {threshold: elpv.find(Elpv(threshold=threshold)).images for threshold in (0.0, 0.5)}


# Solar cells


def test_the_cells_are_those_of_the_publication(cells):
    assert Counter(p.meta["probability"] for p in cells[0.5]) == {
        "0.000": 1508, "0.333": 295, "0.667": 106, "1.000": 715,
    }  # fmt: skip
    assert Counter(p.meta["cell_type"] for p in cells[0.5]) == {"mono": 1074, "poly": 1550}


def test_above_one_half_a_cell_is_defective_and_weighs_its_distance(cells):
    assert Counter((p.meta["probability"], p.label, round(p.weight, 6)) for p in cells[0.5]) == {
        ("0.000", "functional", 1.0): 1508,
        ("0.333", "functional", 0.333333): 295,
        ("0.667", "defective", 0.333333): 106,
        ("1.000", "defective", 1.0): 715,
    }


def test_above_zero_a_cell_is_defective_and_weighs_its_probability(cells):
    assert Counter((p.meta["probability"], p.label, round(p.weight, 6)) for p in cells[0.0]) == {
        ("0.000", "functional", 1.0): 1508,
        ("0.333", "defective", 0.333333): 295,
        ("0.667", "defective", 0.666667): 106,
        ("1.000", "defective", 1.0): 715,
    }


@pytest.mark.parametrize("probability", [0, 0.2, 1 / 3, 0.5, 2 / 3, 0.9, 1])
def test_at_one_half_a_label_weighs_twice_the_distance_of_its_probability(probability):
    assert elpv.label_weight(probability, 0.5) == pytest.approx(abs(2 * probability - 1))


@pytest.mark.parametrize("threshold", [0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("probability", [0, 1 / 3, 2 / 3, 1])
def test_a_weight_is_a_share(probability, threshold):
    assert 0 <= elpv.label_weight(probability, threshold) <= 1


def test_the_ids_of_the_cells_are_unique_and_safe_as_file_names(cells):
    ids = [p.image_id for p in cells[0.5]]
    assert len(set(ids)) == 2624
    assert all(image_id.replace("_", "").replace("-", "").isalnum() for image_id in ids)


def test_the_cells_come_with_their_licence_and_strata():
    info = elpv.find(Elpv(threshold=0.5)).info
    assert info.license == "CC BY-NC-SA 4.0"
    assert info.classes == ("functional", "defective")
    assert info.strata == ("meta_cell_type", "meta_probability")


def test_the_threshold_changes_the_labels_alone(cells):
    for low, high in zip(*cells.values(), strict=True):
        assert (low.image_id, low.path, low.meta) == (high.image_id, high.path, high.meta)


# Folders


def test_a_folder_is_a_class(pets):
    assert listed(pets) == [("cat/a.jpg", "cat"), ("cat/b.jpg", "cat"), ("dog/a.jpg", "dog"), ("dog/b.png", "dog")]


def test_what_lies_deeper_belongs_to_its_class(pets):
    draw(pets / "cat" / "2024" / "may" / "c.jpg")
    assert ("cat/2024/may/c.jpg", "cat") in listed(pets)


@pytest.mark.parametrize(
    "name", ["A.JPG", "b.JpEg", "c.PNG", "d e.jpg", "é漢😀.jpg", "f.tar.jpg", "-g.jpg", "$(h).jpg"]
)
def test_a_photograph_may_have_any_name(pets, tmp_path, name):
    draw(pets / "cat" / name)
    assert (f"cat/{name}", "cat") in listed(pets)
    table, missing = collect(folder.find(Folder(path=str(pets))), tmp_path / "raw")
    assert len(table) == 5
    assert len(missing) == 0
    assert all((tmp_path / "raw" / path).is_file() for path in table["path"])


def test_a_photograph_may_have_a_name_that_is_not_text(pets, tmp_path):
    draw(pets / "cat" / "c.jpg").rename(os.fsdecode(os.fsencode(pets) + b"/cat/\xff.jpg"))
    (pets / "cat" / os.fsdecode(b"\xfe.jpg")).touch()
    table, missing = collect(folder.find(Folder(path=str(pets))), tmp_path / "raw")
    assert len(table) == 5
    assert missing["file"].to_list() == ["cat/�.jpg"]


def test_a_class_whose_name_is_not_text_is_named(pets):
    draw(pets / "x" / "c.jpg").parent.rename(os.fsdecode(os.fsencode(pets) + b"/\xff"))
    assert "is not UTF-8" in refusal(find, pets)


@pytest.mark.parametrize("name", ["é漢😀", "a b", "a,b", 'a"b', "001", "null", "train"])
def test_a_class_may_have_any_name(pets, tmp_path, name):
    (pets / "cat").rename(pets / name)
    table, _ = collect(folder.find(Folder(path=str(pets))), tmp_path / "raw")
    assert set(table["label"]) == {name, "dog"}
    assert tables.read_images(tmp_path / "raw").select(table.columns).equals(table)


@pytest.mark.parametrize("name", ["cat/.c.jpg", "cat/.thumbnails/c.jpg", ".git/c.jpg", "c.jpg"])
def test_hidden_and_stray_files_are_passed_over(pets, name):
    draw(pets / name)
    assert len([p for p in find(pets) if not p.left_out]) == 4


@pytest.mark.parametrize("name", ["cat/notes.txt", "cat/jpg", "cat/c.jpg.txt"])
def test_other_files_are_passed_over_and_a_photograph_is_one_whatever_its_name(pets, name):
    (pets / name).write_text("no photograph")
    assert [p.left_out for p in find(pets) if p.left_out] == ["not an image by its content"]
    draw(pets / name)
    assert len([p for p in find(pets) if not p.left_out]) == 5


def test_two_photographs_of_one_name_in_a_class_are_two(pets, tmp_path):
    draw(pets / "cat" / "a.png", 7)
    draw(pets / "cat" / "deep" / "a.jpg", 8)
    table, _ = collect(folder.find(Folder(path=str(pets))), tmp_path / "raw")
    assert len(table) == 6
    assert table["image_id"].n_unique() == table["path"].n_unique() == 6


def test_an_id_is_safe_as_a_file_name_and_stays_where_the_photograph_does(pets):
    draw(pets / "cat" / ("é/; $" * 10).replace("/", "-")).rename(pets / "cat" / "é; $(rm -rf).jpg")
    before = {p.path: p.image_id for p in find(pets)}
    assert all(
        set(i) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") for i in before.values()
    )
    draw(pets / "cat" / "0.jpg")
    assert {p.path: p.image_id for p in find(pets)}.items() > before.items()


def test_an_id_does_not_depend_on_where_the_folder_lies(pets, tmp_path):
    before = [p.image_id for p in find(pets)]
    pets.rename(tmp_path / "moved")
    assert [p.image_id for p in find(tmp_path / "moved")] == before


def test_a_class_may_be_a_link_to_a_folder_elsewhere(pets, tmp_path):
    (pets / "cat").rename(tmp_path / "elsewhere")
    (pets / "cat").symlink_to(tmp_path / "elsewhere")
    assert [label for _, label in listed(pets)] == ["cat", "cat", "dog", "dog"]


def test_one_class_is_too_few(pets):
    (pets / "dog").rename(pets.parent / "dog")
    assert "holds one class, 'cat': at least two folders" in refusal(find, pets)


def test_a_folder_without_photographs_is_no_class(pets):
    (pets / "empty").mkdir()
    assert folder.find(Folder(path=str(pets))).info.classes == ("cat", "dog")


def test_an_empty_folder_is_refused(tmp_path):
    assert "holds no photograph" in refusal(find, tmp_path)


@pytest.mark.parametrize("name", ["missing", "cat/a.jpg"])
def test_what_is_no_folder_is_refused(pets, name):
    assert f"download.folder.path {pets / name} is not a folder" in refusal(find, pets / name)


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (("train", "test"), {"train", "test"}),
        (("train", "val", "test"), {"train", "validation", "test"}),
        (("Train", "Validation"), {"train", "validation"}),
        (("train", "valid"), {"train", "validation"}),
        (("Training", "Testing"), {"train", "test"}),
    ],
)
def test_subsets_are_kept(tmp_path, names, kept):
    for seed, name in enumerate(names):
        draw(tmp_path / name / "cat" / "a.jpg", 2 * seed)
        draw(tmp_path / name / "dog" / "a.jpg", 2 * seed + 1)
    listing = folder.find(Folder(path=str(tmp_path)))
    assert listing.info.classes == ("cat", "dog")
    assert {image.meta["subset"] for image in listing.images} == kept
    assert len({image.image_id for image in listing.images}) == len(listing.images)


def test_folders_that_are_no_subsets_alone_are_classes(tmp_path):
    for name in ("train", "test", "plane"):
        draw(tmp_path / name / "a.jpg")
    listing = folder.find(Folder(path=str(tmp_path)))
    assert listing.info.classes == ("plane", "test", "train")
    assert not any(image.meta for image in listing.images)


# Names


def test_labels_of_fiftyone_have_one_unicode_form_and_tags_are_subsets_by_any_of_their_names():
    samples = [("/a/1.jpg", "caf\u00e9", ["Train"]), ("/a/2.jpg", "cafe\u0301", ["val"]), ("/a/3.jpg", "tea", ["new"])]
    images = list(fiftyone_dataset.source_images([(*sample, {}) for sample in samples], "drinks"))
    assert [(image.label, image.meta["subset"]) for image in images] == [
        ("caf\u00e9", "train"), ("caf\u00e9", "validation"), ("tea", ""),
    ]  # fmt: skip


def test_classes_of_open_images_have_one_unicode_form():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["download"]["open_images"]
    assert OpenImages(**values | {"classes": ["Cafe\u0301"]}).classes == ["Caf\u00e9"]
    with pytest.raises(ValueError, match="names 'Caf\u00e9' more than once"):
        OpenImages(**values | {"classes": ["Cafe\u0301", "Caf\u00e9"], "negatives": None})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("train", "train"), ("TRAINING", "train"), ("train_set", "train"), ("01-Train", "train"), ("train 2", "train"),
        ("trainImages", "train"), ("traindata", "train"), ("train2017", "train"), ("trainval", "train"),
        ("train_val", "train"), ("Valid", "validation"), ("dev", "validation"), ("eval-data", "validation"),
        ("validation images", "validation"), ("test1", "test"), ("Testing_Set", "test"), ("images.test", "test"),
        ("restrained", ""), ("trains", ""), ("valley", ""), ("device", ""), ("contest", ""), ("latest", ""), ("1", ""),
        ("", ""), ("train_test", ""),
    ],
)  # fmt: skip
def test_a_subset_by_the_words_of_its_name(name, meant):
    subset, rest = own_files.subset_of(name)
    assert (subset if not rest else "") == meant


@pytest.mark.parametrize("name", ["freight_train", "test_tube", "valid_ticket", "evaluation_form"])
def test_a_name_with_another_word_is_no_subset_by_itself(name):
    assert own_files.subset_of(name)[1]


# Collecting


def drawn(root: Path, count: int = 2) -> list[SourceImage]:
    """`count` images of each class, whose files are there."""
    return [
        SourceImage(f"{label}-{i}", draw(root / label / f"{i}.jpg", 10 * j + i), label, meta={"serial": f"00{i}"})
        for j, label in enumerate(INFO.classes)
        for i in range(count)
    ]


def test_the_table_has_its_columns_and_reads_back(tmp_path):
    table, missing = collect(Listing(INFO, drawn(tmp_path)[::-1]), tmp_path / "raw")
    assert table.columns == [*tables.IMAGES, "meta_serial"]
    assert tables.read_images(tmp_path / "raw").equals(table)
    assert table["image_id"].to_list() == ["cat-0", "cat-1", "dog-0", "dog-1"]
    assert table["meta_serial"].to_list() == ["000", "001"] * 2
    assert missing.columns == ["image_id", "file", "reason"]


def test_each_photograph_is_copied_as_it_is(tmp_path):
    originals = {image.image_id: image.path.read_bytes() for image in drawn(tmp_path)}
    table, _ = collect(Listing(INFO, drawn(tmp_path)), tmp_path / "raw")
    for row in table.iter_rows(named=True):
        copy = (tmp_path / "raw" / row["path"]).read_bytes()
        assert copy == originals[row["image_id"]]
        assert row["sha256"] == hashlib.sha256(copy).hexdigest()


@pytest.mark.parametrize(
    ("name", "ending"), [("a.jfif", ".jpg"), ("a.png", ".jpg"), ("a", ".jpg"), ("a.JPEG", ".jpeg")]
)
def test_a_copy_has_the_ending_of_its_content_as_other_programs_expect(name, ending, tmp_path):
    images = drawn(tmp_path)
    path = images[0].path.rename(tmp_path / name)
    table, _ = collect(Listing(INFO, [replace(images[0], path=path), *images[1:]]), tmp_path / "raw")
    assert table["path"][0] == f"images/cat-0{ending}"
    assert (tmp_path / "raw" / table["path"][0]).read_bytes() == path.read_bytes()


def test_the_size_is_that_of_the_upright_photograph(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    images = drawn(tmp_path)
    draw(images[0].path, size=(6, 9), exif=exif)
    table, _ = collect(Listing(INFO, images), tmp_path / "raw")
    assert table.select("height", "width").rows()[:2] == [(9, 6), (6, 9)]


def test_the_source_is_described(tmp_path):
    info = DatasetInfo("test", "frei für alle", "漢", ("cat", "dog"))
    collect(Listing(info, drawn(tmp_path)), tmp_path / "raw")
    description = json.loads((tmp_path / "raw" / "source.json").read_text(encoding="utf-8"))
    assert description["license"] == "frei für alle"
    assert description["classes"] == ["cat", "dog"]


def test_collecting_twice_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        collect(Listing(INFO, drawn(tmp_path, 12)), tmp_path / name)
    first, second = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("first", "second")
    )
    assert first == second
    assert len(first) == 24 + 4


def test_the_originals_are_not_changed_and_their_protection_is_not_copied(tmp_path):
    images = drawn(tmp_path)
    for image in images:
        image.path.chmod(0o444)
        os.utime(image.path, (1, 1))
    before = [(p.path.read_bytes(), p.path.stat()) for p in images]
    table, _ = collect(Listing(INFO, images), tmp_path / "raw")
    for image, (data, status) in zip(images, before, strict=True):
        assert image.path.read_bytes() == data
        now = image.path.stat()
        assert (now.st_mode, now.st_mtime, now.st_ino) == (status.st_mode, status.st_mtime, status.st_ino)
    for path in table["path"]:
        assert (tmp_path / "raw" / path).stat().st_mode & 0o200


def test_what_cannot_be_read_is_left_out_and_listed(tmp_path):
    images = drawn(tmp_path, 3)
    images[0].path.write_bytes(images[0].path.read_bytes()[:200])
    images[1].path.write_bytes(b"")
    images[3].path.unlink()
    table, missing = collect(Listing(INFO, images), tmp_path / "raw")
    assert table["image_id"].to_list() == ["cat-2", "dog-1", "dog-2"]
    assert missing["image_id"].to_list() == ["cat-0", "cat-1", "dog-0"]
    assert missing["file"].to_list() == ["0.jpg", "1.jpg", "0.jpg"]
    for reason, expected in zip(missing["reason"], ("damaged", "an empty file", "no such file"), strict=True):
        assert reason.startswith(expected)
    assert pl.read_csv(tmp_path / "raw" / "missing.csv").equals(missing)
    assert len(list((tmp_path / "raw" / "images").iterdir())) == 3


def test_a_class_of_which_nothing_can_be_read_is_named_with_the_reason(tmp_path):
    images = drawn(tmp_path)
    images[0].path.unlink()
    for image in images[2:]:
        image.path.write_bytes(b"")
    assert refusal(collect, Listing(INFO, images), tmp_path / "raw") == (
        "no photograph of the class 'dog' could be read (an empty file)"
    )


def test_a_class_that_no_photograph_has_any_more_is_said_to_be_empty(tmp_path):
    images = [dataclasses.replace(image, label="cat") for image in drawn(tmp_path)]
    assert refusal(collect, Listing(INFO, images), tmp_path / "raw") == (
        "no photograph of the class 'dog' is left: all have another label now, or were left out"
    )


def test_nothing_that_can_be_read_is_one_line(tmp_path):
    images = drawn(tmp_path)
    for image in images:
        image.path.write_bytes(b"")
    assert "'cat' could be read" in refusal(collect, Listing(INFO, images), tmp_path / "raw")


def test_classes_that_no_head_can_tell_apart_in_memory_are_refused_before_one_is_copied(tmp_path):
    classes = tuple(f"{number:05d}" for number in range(30_000))
    listing = Listing(DatasetInfo("test", "", "", classes), drawn(tmp_path))
    assert refusal(collect, listing, tmp_path / "raw") == (
        "30,000 classes are too many: Thaw trains up to 10,000; use broader classes"
    )
    assert not (tmp_path / "raw").exists()


def test_two_photographs_with_one_id_are_named(tmp_path):
    images = drawn(tmp_path)
    twice = [*images, SourceImage("cat-0", images[3].path, "dog")]
    text = refusal(collect, Listing(INFO, twice), tmp_path / "raw")
    assert "two photographs have the id cat-0" in text
    assert str(images[0].path) in text
    assert str(images[3].path) in text


# Adding a source

OWN_SOURCE = """
from pathlib import Path

from thaw.core.section import Section
from thaw.sources.base import DatasetInfo, Listing, Source, SourceImage


class Flat(Section):
    path: str | None


def find(params: Flat) -> Listing:
    files = sorted(Path(params.path).iterdir())
    images = [SourceImage(file.stem, file, file.stem.partition("-")[0]) for file in files]
    return Listing(DatasetInfo("flat", "CC0", "", ("cat", "dog")), images)


SOURCE = Source("flat", Flat, find, required={"path": "a folder"})
"""
STAGE = """
import download, flat
from thaw.core.errors import run
from thaw.sources.registry import SOURCES

SOURCES["flat"] = flat.SOURCE
run(download.main)
"""


def run_with_own_source(folder: Path, path: Path | None) -> subprocess.CompletedProcess:
    """Run the stage `download` with another source: a module, its registration, and its section of params.yaml."""
    (folder / "flat.py").write_text(OWN_SOURCE)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["download"] |= {"source": "flat", "flat": {"path": path and str(path)}}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    environment = os.environ | {"PYTHONPATH": f"{SRC}{os.pathsep}{folder}"}
    return subprocess.run(
        [sys.executable, "-c", STAGE], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_new_source_needs_a_module_and_its_registration(tmp_path):
    names = ["cat-a", "cat-b", "cat-c", "dog-a", "dog-b", "dog-c"]
    for seed, name in enumerate(names):
        draw(tmp_path / "mine" / f"{name}.png", seed)
    process = run_with_own_source(tmp_path, tmp_path / "mine")
    assert (process.stdout, process.stderr) == ("download: 6 photographs from flat (CC0): 3 cat, 3 dog\n", "")
    images = tables.read_images(tmp_path / "data/raw")
    assert images["image_id"].to_list() == names
    assert set(images["license"]) == {"CC0"}


def test_what_a_new_source_requires_is_checked_before_any_work(tmp_path):
    process = run_with_own_source(tmp_path, None)
    assert "download.flat.path must name a folder where download.source is flat" in process.stderr
    assert process.stderr.count("\n") == 1 and not (tmp_path / "data").exists()


def test_the_photographs_of_many_classes_are_not_counted_one_by_one():
    labels = [f"{number:02d}" for number in range(25)]
    images = pl.DataFrame({"label": [*labels, "03"]})
    info = DatasetInfo("test", "CC0", "", tuple(labels))
    assert download.summary(info, images).startswith(
        "26 photographs from test (CC0): 25 classes with 1 to 2 each: 1 00, 1 01, 1 02, 2 03, 1 04, "
    )
    assert download.summary(info, images).endswith(", 1 19, …")


def test_the_stage_says_what_it_left_out_what_it_ignored_and_what_may_be_wrong(pets, tmp_path, monkeypatch, capsys):
    for path in ("new.jpg", "Cat/1.jpg", "Cat/2.jpg", "Cat/3.jpg", "cat/x.jpg", "dog/x.jpg", "dog/.hidden.jpg"):
        draw(pets / path)
    (pets / "annotations").mkdir()
    (pets / "annotations" / "1.xml").write_text("<annotation/>")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["download"] |= {"source": "folder", "folder": {"path": str(pets)}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    download.main()
    assert capsys.readouterr().out == (
        "download: 9 photographs from folder: 3 Cat, 3 cat, 3 dog; 2 left out (1 in no folder of a class; "
        "1 not an image by its content), listed in data/raw/missing.csv; warning: classes that differ in little: "
        "'Cat' and 'cat'; folders left out as a whole: annotations (1 file); ignored leftovers: .hidden.jpg\n"
    )
