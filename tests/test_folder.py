"""The source `folder`: people's own photographs, with any names and in any arrangement."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import yaml

from thaw.core.errors import ThawError
from thaw.sources import folder
from thaw.sources.collection import attribution, collect
from thaw.sources.folder import Folder

ROOT = Path(__file__).parents[1]


def draw(path: Path, ending: str = ".png") -> Path:
    """Write an image of 24 × 16 pixels, drawn from its path's name."""
    seed = int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:4])
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 24, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(ending, pixels)[1].tobytes())
    return path


def two_classes(root: Path, count: int = 3) -> Path:
    for label in ("cat", "dog"):
        for number in range(count):
            draw(root / label / f"{number}.png")
    return root


def take(root: Path, raw: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    return collect(folder.find(Folder(path=str(root))), raw)


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        os.fsdecode(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()
    }


def test_a_folder_is_a_class(tmp_path):
    table, missing = take(two_classes(tmp_path / "mine"), tmp_path / "raw")
    assert table["label"].value_counts(sort=True).sort("label").rows() == [("cat", 3), ("dog", 3)]
    assert "meta_subset" not in table.columns and not len(missing)


def test_ids_are_those_of_the_relative_path(tmp_path):
    table, _ = take(two_classes(tmp_path / "mine"), tmp_path / "raw")
    digest = hashlib.sha256(b"cat/0.png").hexdigest()[:8]
    assert f"0-{digest}" in table["image_id"].to_list()


def test_files_are_copied_and_the_folder_is_left_as_it_is(tmp_path):
    root = two_classes(tmp_path / "mine")
    (root / "cat/0.png").chmod(0o444)
    before = contents(root)
    table, _ = take(root, tmp_path / "raw")
    assert contents(root) == before
    for row in table.iter_rows(named=True):
        copy = tmp_path / "raw" / row["path"]
        assert hashlib.sha256(copy.read_bytes()).hexdigest() == row["sha256"]
        assert not copy.is_symlink() and copy.stat().st_nlink == 1
        copy.write_bytes(b"")  # writable, and no way back to the original
    assert contents(root) == before


def test_subset_folders_are_kept(tmp_path):
    for subset in ("Train", "val", "test"):
        two_classes(tmp_path / "mine" / subset)
    table, _ = take(tmp_path / "mine", tmp_path / "raw")
    assert set(table["label"]) == {"cat", "dog"}
    assert table["meta_subset"].value_counts().sort("meta_subset").rows() == [
        ("test", 6),
        ("train", 6),
        ("validation", 6),
    ]


def test_a_class_may_be_called_train_beside_others(tmp_path):
    for label in ("bus", "car", "train"):
        draw(tmp_path / "mine" / label / "0.png")
    table, _ = take(tmp_path / "mine", tmp_path / "raw")
    assert set(table["label"]) == {"bus", "car", "train"}


def test_nested_folders_belong_to_their_class(tmp_path):
    root = two_classes(tmp_path / "mine")
    draw(root / "cat/indoors/2024/0.png")
    table, _ = take(root, tmp_path / "raw")
    assert len(table.filter(label="cat")) == 4


@pytest.mark.parametrize("name", ["A.JPG", "b.JpEg", "c.PNG", "d.WEBP", "e.tiff", "f.bmp"])
def test_endings_of_any_case_are_images(name, tmp_path):
    root = two_classes(tmp_path / "mine")
    draw(root / "cat" / name, Path(name).suffix.lower())
    table, missing = take(root, tmp_path / "raw")
    assert len(table) == 7 and not len(missing)


ODD = ['a, "b".png', "line\nbreak.png", "ünïcödé 猫.png", "-rf.png", "x" * 240 + ".png", "%s{}$(x).png"]


@pytest.mark.parametrize("name", [*ODD, os.fsdecode(b"latin-\xe9.png")])
def test_odd_names_are_taken(name, tmp_path):
    root = two_classes(tmp_path / "mine")
    draw(root / "cat" / name)
    table, missing = take(root, tmp_path / "raw")
    assert len(table) == 7 and not len(missing)
    assert table["image_id"].str.contains(r"^[A-Za-z0-9_-]+$").all()
    assert pl.read_csv(tmp_path / "raw/images.csv", infer_schema_length=None)["image_id"].equals(table["image_id"])


def test_unreadable_files_are_listed_and_counted(tmp_path):
    root = two_classes(tmp_path / "mine")
    (root / "cat/empty.png").touch()
    (root / "cat/cut.png").write_bytes((root / "cat/0.png").read_bytes()[:60])
    (root / "dog/text.jpg").write_text("no image")
    (root / "dog/gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "dog/notes.txt").write_text("ignored")
    (root / "dog" / os.fsdecode(b"\xff.txt")).touch()
    (root / "dog/.DS_Store").touch()
    table, missing = take(root, tmp_path / "raw")
    assert len(table) == 6
    reasons = dict(missing.select("file", "reason").iter_rows())
    assert set(reasons) == {
        "cat/empty.png",
        "cat/cut.png",
        "dog/text.jpg",
        "dog/gone.png",
        "dog/notes.txt",
        "dog/�.txt",
    }
    assert reasons["dog/notes.txt"] == "not an image by its content"
    assert reasons["dog/gone.png"] == "no such file"
    assert not any(str(tmp_path) in reason for reason in reasons.values())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_listed_without_a_path_of_this_machine(tmp_path):
    root = two_classes(tmp_path / "mine")
    (root / "cat/0.png").chmod(0)
    _, missing = take(root, tmp_path / "raw")
    assert missing["file"].to_list() == ["cat/0.png"]
    assert "Permission denied" in missing["reason"][0] and str(tmp_path) not in missing["reason"][0]


def test_a_pipe_among_the_photographs_is_listed_and_not_waited_for(tmp_path):
    root = two_classes(tmp_path / "mine")
    os.mkfifo(root / "cat/pipe.png")
    _, missing = take(root, tmp_path / "raw")
    assert missing.select("file", "reason").rows() == [("cat/pipe.png", "not a file")]


def test_a_socket_among_the_photographs_is_listed_and_is_no_lost_disk(tmp_path, monkeypatch):
    root = two_classes(tmp_path / "mine")
    monkeypatch.chdir(root / "cat")  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        _, missing = take(root, tmp_path / "raw")
    assert missing.select("file", "reason").rows() == [("cat/socket.png", "not a file")]


def test_a_folder_of_other_files_is_no_class(tmp_path):
    root = two_classes(tmp_path / "mine")
    (root / "annotations").mkdir()
    (root / "annotations/0.xml").touch()
    table, _ = take(root, tmp_path / "raw")
    assert set(table["label"]) == {"cat", "dog"}


def test_a_link_to_a_folder_is_followed(tmp_path):
    elsewhere = two_classes(tmp_path / "elsewhere")
    root = tmp_path / "mine"
    root.mkdir()
    (root / "cat").symlink_to(elsewhere / "cat")
    (root / "dog").symlink_to(elsewhere / "dog")
    table, _ = take(root, tmp_path / "raw")
    assert len(table) == 6


def test_nothing_needs_attribution_without_a_licence(tmp_path):
    listing = folder.find(Folder(path=str(two_classes(tmp_path / "mine"))))
    table, _ = collect(listing, tmp_path / "raw")
    assert attribution(table, listing.images).is_empty()


def test_the_order_of_the_file_system_does_not_matter(tmp_path):
    original, reversed_copy = tmp_path / "original", tmp_path / "reversed"
    two_classes(original)
    for path in sorted(original.rglob("*.png"))[::-1]:
        target = reversed_copy / path.relative_to(original)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    take(original, tmp_path / "a")
    take(reversed_copy, tmp_path / "b")
    assert (tmp_path / "a/images.csv").read_bytes() == (tmp_path / "b/images.csv").read_bytes()


# What fails


def link_up(root: Path) -> None:
    (root / "cat/back").symlink_to(root)


def link_to_itself(root: Path) -> None:
    (root / "cat/self").symlink_to(root / "cat/self")


def link_in_a_circle(root: Path) -> None:
    (root / "cat/to").mkdir()
    (root / "dog/fro").mkdir()
    (root / "cat/to/dog").symlink_to(root / "dog/fro")
    (root / "dog/fro/cat").symlink_to(root / "cat/to")


def link_class_to_root(root: Path) -> None:
    (root / "all").symlink_to(root)


@pytest.mark.parametrize("loop", [link_up, link_to_itself, link_in_a_circle, link_class_to_root])
def test_links_that_go_round(loop, tmp_path):
    root = two_classes(tmp_path / "mine")
    loop(root)
    with pytest.raises(ThawError, match="is a link"):
        take(root, tmp_path / "raw")


def test_a_folder_whose_name_is_not_text(tmp_path):
    root = two_classes(tmp_path / "mine")
    draw(root / os.fsdecode(b"caf\xe9") / "0.png")
    with pytest.raises(ThawError, match="is not UTF-8"):
        take(root, tmp_path / "raw")


@pytest.mark.parametrize("name", ["می‌خواهم", "👩‍🌾", "猫　犬", "a\u00a0b"])
def test_a_name_of_one_line_names_a_class_whatever_it_is_written_with(name, tmp_path):
    root = two_classes(tmp_path / "mine")
    draw(root / name / "0.png")
    table, _ = take(root, tmp_path / "raw")
    assert name in table["label"].to_list()


def test_a_home_that_nobody_has_is_one_line(tmp_path):
    with pytest.raises(ThawError, match=r"download\.folder\.path ~nobody-here/photos: there is no such home"):
        take("~nobody-here/photos", tmp_path / "raw")


def test_a_folder_whose_name_takes_two_lines(tmp_path):
    root = two_classes(tmp_path / "mine")
    draw(root / "cat\nbig" / "0.png")
    with pytest.raises(ThawError, match=r"cat\\nbig' cannot be printed on one line"):
        take(root, tmp_path / "raw")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "is not a folder"),
        (lambda root: root.mkdir(), "no photograph in a folder of its class"),
        (lambda root: draw(root / "0.png"), "no photograph in a folder of its class"),
        (lambda root: draw(root / "cat/0.png"), "one class, 'cat': at least two"),
        (lambda root: draw(root / "train/cat/0.png"), "one class, 'cat': at least two"),
        (lambda root: [draw(root / "cat/0.png"), (root / "dog").mkdir()], "one class, 'cat': at least two"),
        (
            lambda root: [
                draw(root / f"cat/{i}.png") and draw(root / f"dog/{i}.png").write_bytes(b"") for i in range(3)
            ],
            "class 'dog' could be read",
        ),
    ],
)
def test_one_line_and_nothing_half_written(prepare, message, tmp_path):
    root = tmp_path / "mine"
    prepare(root)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["download"] |= {"source": "folder", "folder": {"path": str(root)}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    process = subprocess.run(
        [sys.executable, ROOT / "src/download.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 1 and not process.stdout
    assert process.stderr.startswith("thaw: ") and process.stderr.count("\n") == 1
    assert message in process.stderr
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (
            ("train_cats", "train_dogs", "test_cats", "test_dogs", "cows"),
            "train_cats, test_cats, train_dogs, test_dogs",
        ),
        (("cats/cats_train", "cats/cats_test", "dogs/dogs_train", "dogs/dogs_test"), "cats_train"),
    ],
)
def test_a_split_in_the_names_of_classes_is_pointed_at(folders, named, tmp_path):
    for name in folders:
        for number in range(3):
            draw(tmp_path / "mine" / name / f"{number}.png")
    (warning,) = folder.find(Folder(path=str(tmp_path / "mine"))).warnings
    assert all(name in warning for name in named.split(", "))
    assert "are no split: the folders of one are called train, validation and test, and hold the classes" in warning
    if "cows" in folders:
        shutil.rmtree(tmp_path / "mine/cows")
        with pytest.raises(ThawError, match="are no split: the folders of one are called train, validation and test"):
            folder.find(Folder(path=str(tmp_path / "mine")))


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("training_data/train", "training_data/val"), "training_data holds the folders of a split, train, val: name"),
        (("Train/train", "Train/test"), "Train holds the folders of a split, test, train: name that folder"),
        (("train/train", "train/val", "test"), "train holds the folders of a split, train, val: put all folders"),
    ],
)
def test_a_split_within_a_folder_of_a_split_is_one_line(folders, said, tmp_path):
    for name in folders:
        two_classes(tmp_path / "mine" / name)
    with pytest.raises(ThawError, match=said):
        folder.find(Folder(path=str(tmp_path / "mine")))


def test_classes_that_hold_nothing_but_one_folder_of_a_split_are_pointed_at(tmp_path):
    for name in ("fold1", "fold2"):
        draw(tmp_path / "mine" / name / "train" / "0.png"), draw(tmp_path / "mine" / name / "train" / "1.png")
    (warning,) = folder.find(Folder(path=str(tmp_path / "mine"))).warnings
    assert warning.startswith("fold1, fold2 are the classes, although they hold nothing but train")
    draw(tmp_path / "mine/fold2/2.png")
    assert not folder.find(Folder(path=str(tmp_path / "mine"))).warnings


def test_classes_whose_splits_all_hold_the_same_folders_are_pointed_at(tmp_path):
    for room in ("day", "night"):
        for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
            for number in range(3):
                draw(tmp_path / "mine" / room / name / f"{number}.png")
    listing = folder.find(Folder(path=str(tmp_path / "mine")))
    assert listing.info.classes == ("day", "night")
    assert "day, night are the classes, although each holds the same folders: cat, dog. If" in listing.warnings[0]
