"""The source `fiftyone`, with the real FiftyOne and its database; tests that need them skip where they are missing."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import polars as pl
import pytest
import yaml
from fiftyone_database import joined, own_database

import fingerprints
from thaw.core.errors import ThawError
from thaw.sources import fiftyone_dataset, fiftyone_several
from thaw.sources.collection import collect
from thaw.sources.fiftyone_dataset import FiftyOne

ROOT = Path(__file__).parents[1]
installed = pytest.mark.skipif(not find_spec("fiftyone"), reason="FiftyOne is not installed: requirements-fiftyone.txt")


def workspace(folder: Path, **changes) -> subprocess.CompletedProcess:
    """Run the stage in a folder of its own."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["download"]["source"] = "fiftyone"
    values["download"]["fiftyone"] |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    return subprocess.run(
        [sys.executable, ROOT / "src/download.py"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[tuple[Path, int]]:
    """A database of the tests' own: its folder and its port."""
    home = tmp_path_factory.mktemp("fiftyone")
    with own_database(home) as port:
        yield home, port


@pytest.fixture(scope="module")
def photographs(database) -> Path:
    """Four datasets in a database of their own; returns the folder of their photographs."""
    import fiftyone as fo

    home = database[0]

    rng = np.random.default_rng(0)
    pets = fo.Dataset("pets", persistent=True)
    for number, (label, tags) in enumerate(
        [("cat", ["train"]), ("cat", ["validation", "nice"]), ("cat", ["test"]), ("dog", ["train"]), ("dog", []),
         ("dog", ["test"]), (None, ["train"]), ("cat", ["train", "test"])]
    ):  # fmt: skip
        path = home / f"photographs/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (16, 24, 3), np.uint8))
        sample = fo.Sample(filepath=str(path), tags=tags)
        if label:
            sample["ground_truth"] = fo.Classification(label=label)
        sample["boxes"] = fo.Detections(detections=[])
        pets.add_sample(sample)
    gone = fo.Sample(filepath=str(home / "photographs/0/gone.png"), ground_truth=fo.Classification(label="dog"))
    pets.add_sample(gone)
    fo.Dataset("nothing", persistent=True)
    boxes = fo.Dataset("boxes", persistent=True)
    boxes.add_sample(fo.Sample(filepath=str(home / "photographs/0/0.png"), boxes=fo.Detections(detections=[])))
    single = fo.Dataset("single", persistent=True)
    single.add_sample(
        fo.Sample(filepath=str(home / "photographs/0/0.png"), ground_truth=fo.Classification(label="cat"))
    )
    return home / "photographs"


@installed
def test_no_other_database_is_used_whatever_runs(database, photographs):
    assert joined() == ("127.0.0.1", database[1], False)


@installed
@pytest.mark.parametrize(
    ("name", "label", "said"),
    [
        ("lines", "dog\nbig", r"the label 'dog\\nbig' cannot be printed on one line"),
        ("around", "dog\u202e", r"the label 'dog\\u202e' has the character U\+202E, which turns around"),
    ],
)
def test_a_label_that_would_spoil_a_line_is_refused(photographs, name, label, said):
    import fiftyone as fo

    refused = fo.Dataset(name, persistent=True)
    for number, text in enumerate(("cat", label)):
        path = str(photographs / f"{number}/{number}.png")
        refused.add_sample(fo.Sample(filepath=path, ground_truth=fo.Classification(label=text)))
    with pytest.raises(ThawError, match=said):
        fiftyone_dataset.find(FiftyOne(dataset=name, label_field="ground_truth", absent_field=None, unlisted=None))


@installed
def test_a_sample_that_is_relabelled_tagged_or_removed_is_noticed(photographs, tmp_path, monkeypatch):
    import fiftyone as fo

    changing = fo.Dataset("changing", persistent=True)
    for number in range(8):
        path = str(photographs / f"{number % 2}/{number}.png")
        label = fo.Classification(label="cat" if number < 4 else "dog")
        changing.add_sample(fo.Sample(filepath=path, ground_truth=label))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fingerprints, "MEMORY", tmp_path / "memory")
    for name in ("dvc.yaml", "params.yaml"):
        Path(name).write_text((ROOT / name).read_text())
    section = FiftyOne(dataset="changing", label_field="ground_truth", absent_field=None, unlisted=None)
    download = SimpleNamespace(
        source="fiftyone", fiftyone=section, bits=None, added=None, corrections=None, new_classes=[]
    )
    hashes = [fingerprints.of_photographs(download, "single", None) for _ in range(2)]
    sample = changing.first()
    sample["ground_truth"].label = "dog"
    sample.save()
    hashes.append(fingerprints.of_photographs(download, "single", hashes[-1]))
    sample.tags.append("test")
    sample.save()
    hashes.append(fingerprints.of_photographs(download, "single", hashes[-1]))
    changing.delete_samples([sample])
    hashes.append(fingerprints.of_photographs(download, "single", hashes[-1]))
    assert hashes[0] == hashes[1] and len(set(hashes)) == 4


def test_a_sample_that_lies_elsewhere_renames_no_other():
    paths = [f"/data/pets/{label}/{number}.jpg" for label in ("cat", "dog") for number in range(3)]

    def ids(paths: list[str]) -> dict[str, str]:
        images = fiftyone_dataset.source_images(((path, "cat", None, {}) for path in paths), "pets")
        return {str(image.path): image.image_id for image in images}

    alone = ids(paths)
    with_others = ids([*paths, "/else/where.jpg", "/other/pets/cat/0.jpg"])
    assert len(set(with_others.values())) == 8
    assert {path for path in paths if alone[path] != with_others[path]} == {"/data/pets/cat/0.jpg"}  # now there are two
    assert ids([path.replace("/data", "/moved") for path in paths]).keys() != alone.keys()
    assert list(ids([path.replace("/data", "/moved") for path in paths]).values()) == list(alone.values())


@installed
def test_labels_and_tags_become_classes_and_subsets(photographs, tmp_path):
    listing = fiftyone_dataset.find(
        FiftyOne(dataset="pets", label_field="ground_truth", absent_field=None, unlisted=None)
    )
    table, missing = collect(listing, tmp_path / "raw")
    rows = {row["image_id"].split("-")[0]: (row["label"], row["meta_subset"]) for row in table.iter_rows(named=True)}
    assert rows == {
        "0": ("cat", "train"), "1": ("cat", "validation"), "2": ("cat", "test"),
        "3": ("dog", "train"), "4": ("dog", ""), "5": ("dog", "test"),
    }  # fmt: skip
    assert dict(missing.select("file", "reason").iter_rows()) == {
        "0/6.png": "no label in the dataset",
        "1/7.png": "in two subsets",
        "0/gone.png": "no such file",
    }


def test_fields_of_samples_mean_what_columns_of_a_table_mean():
    """An empty one is as none: the split is left to Thaw, and the weight is 1."""
    samples = [
        ("/a/0.png", "cat", ["train"], {"split": "", "group": "house 1", "weight": "0.5", "meta_site": "north"}),
        ("/a/1.png", "dog", [], {"split": "Test", "group": "", "weight": "", "meta_site": ""}),
        ("/a/2.png", "dog", ["train"], {"split": "val", "group": "", "weight": "2", "meta_site": ""}),
    ]
    first, second, third = fiftyone_dataset.source_images(samples, "pets")
    assert first.meta == {"subset": "train", "group": "house 1", "site": "north"} and first.weight == 0.5
    assert second.meta == {"subset": "test", "group": "", "site": ""} and second.weight == 1
    assert not first.left_out and not second.left_out and third.left_out == "in two subsets"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": "fold 1"}, "^pets: a/0.png: split should be train, validation, test or empty, not 'fold 1'"),
        ({"weight": "1_0"}, "^pets: a/0.png: weight should be a number from 0, not '1_0'"),
        ({"weight": "-1"}, "^pets: a/0.png: weight should be a number from 0, not '-1'"),
    ],
)
def test_a_field_with_another_value_names_the_sample(given, message):
    with pytest.raises(ThawError, match=message):
        list(fiftyone_dataset.source_images([("/a/0.png", "cat", [], given)], "pets"))


def labelled_dataset(name: str, photographs: Path, **fields: list):
    """A dataset of six samples, with the values of further fields; None: the sample has none."""
    import fiftyone as fo

    dataset = fo.Dataset(name, persistent=True)
    for number in range(6):
        path = str(photographs / f"{number % 2}/{number}.png")
        values = {field: each[number] for field, each in fields.items() if each[number] is not None}
        label = fo.Classification(label="cat" if number < 3 else "dog")
        dataset.add_sample(fo.Sample(filepath=path, ground_truth=label, **values))
    return FiftyOne(dataset=name, label_field="ground_truth", absent_field=None, unlisted=None)


@installed
def test_fields_of_a_dataset_become_columns(photographs, tmp_path):
    section = labelled_dataset(
        "columns",
        photographs,
        split=["train", "validation", "test", "train", None, "test"],
        group=["a", "a", None, "b", "b", "b"],
        Weight=[0.5, 1.0, 2.0, None, 1.0, 1.0],
        meta_site=[1, 2, None, 1, 2, 2],
        meta_night=[True, False, None, True, True, True],
        meta_date=[date(2024, 5, day) for day in range(1, 7)],
        boxes=[["not", "read"]] * 6,
    )
    listing = fiftyone_dataset.find(section)
    assert "fields that are read: Weight, group, meta_date, meta_night, meta_site, split" in listing.notes
    table, _ = collect(listing, tmp_path / "raw")
    table = table.sort("image_id")
    assert table["meta_subset"].to_list() == ["train", "validation", "test", "train", "", "test"]
    assert table["meta_group"].to_list() == ["a", "a", "", "b", "b", "b"]
    assert table["weight"].to_list() == [0.5, 1, 2, 1, 1, 1]
    assert table["meta_site"].to_list() == ["1", "2", "", "1", "2", "2"]
    assert table["meta_night"].to_list() == ["true", "false", "", "true", "true", "true"]
    assert table["meta_date"].to_list() == [f"2024-05-0{day}" for day in range(1, 7)]


@installed
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("group", ["a"], "^the field 'group' of the FiftyOne dataset 'odd group' holds values of the kind .*[lL]ist"),
        ("meta_subset", "a", "dataset 'odd meta_subset': the field meta_subset means something else .*: call it split"),
        ("split", "late", r"dataset 'odd split': 0/0\.png: split should be train, validation, test or empty"),
    ],
)
def test_a_field_that_is_no_column_is_one_line(field, value, message, photographs):
    section = labelled_dataset(f"odd {field}", photographs, **{field: [value] * 6})
    with pytest.raises(ThawError, match=message):
        fiftyone_dataset.find(section)


@installed
def test_the_stage_runs_with_nothing_but_its_own_line(photographs, tmp_path):
    process = workspace(tmp_path, dataset="pets")
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("download: 6 photographs from fiftyone: 3 cat, 3 dog; 3 left out")
    assert len(process.stdout.splitlines()) == 1
    assert len(pl.read_csv(tmp_path / "data/raw/images.csv")) == 6


@installed
@pytest.mark.parametrize(
    ("dataset", "label_field", "message"),
    [
        ("petz", "ground_truth", r"no dataset 'petz' \(did you mean pets\?\)"),
        ("pets", "groundtruth", r"have no field 'groundtruth' \(did you mean ground_truth\?\)"),
        ("pets", "boxes", r"the field 'boxes' .* is not a Classification"),
        ("boxes", "boxes", "no field of the FiftyOne dataset 'boxes' is a Classification"),
        ("nothing", "ground_truth", "no field of the FiftyOne dataset 'nothing' is a Classification"),
        ("single", "ground_truth", "holds one class, 'cat': two classes are needed"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(dataset, label_field, message, photographs):
    with pytest.raises(ThawError, match=message):
        fiftyone_dataset.find(FiftyOne(dataset=dataset, label_field=label_field, absent_field=None, unlisted=None))


@installed
def test_a_database_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300")
    process = workspace(tmp_path, dataset="pets")
    assert process.returncode == 1 and not process.stdout
    assert process.stderr.startswith("thaw: FiftyOne's database does not answer (") and process.stderr.count("\n") == 1


@installed
def test_fields_of_several_labels_say_what_is_present_absent_or_not_known(photographs):
    import fiftyone as fo

    section = labelled_dataset("several", photographs, weight=[0.5, 1.0, 1.0, 1.0, 1.0, 1.0])
    shown = [["cat", "dog"], ["cat"], ["cat"], ["dog"], ["dog"], []]
    absent = [[], ["dog"], ["dog"], ["cat"], ["cat"], ["cat", "dog"]]
    dataset = fo.load_dataset("several")
    for sample in dataset:
        number = int(Path(sample.filepath).stem)
        for field, labels in (("positive_labels", shown[number]), ("negative_labels", absent[number])):
            sample[field] = fo.Classifications(classifications=[fo.Classification(label=label) for label in labels])
        sample.save()
    section = FiftyOne(dataset="several", label_field="positive_labels", absent_field="negative_labels",
                       unlisted="unknown")  # fmt: skip
    listing = fiftyone_several.find(section)
    found = {Path(image.path).stem: {k.label: k.is_present for k in image.known} for image in listing.images}
    assert found == {
        str(number): {**dict.fromkeys(absent[number], False), **dict.fromkeys(shown[number], True)}
        for number in range(6)
    }
    assert listing.info.classes == ("cat", "dog")
    assert {known.weight for image in listing.images if image.path.stem == "0" for known in image.known} == {0.5}
    with pytest.raises(ThawError, match=r"label_field: .* has no field 'ground_truth' of type Classifications"):
        fiftyone_several.find(section.model_copy(update={"label_field": "ground_truth"}))
    with pytest.raises(ThawError, match="the class 'cat' is both present and absent"):
        fiftyone_several.find(section.model_copy(update={"absent_field": "positive_labels"}))
    with pytest.raises(ThawError, match=r"no photograph is known not to show the class 'cat'.*unlisted"):
        fiftyone_several.find(section.model_copy(update={"absent_field": None}))
    dataset.add_sample(fo.Sample(filepath=str(photographs / "0/6.png")))  # nobody has labelled it
    images = fiftyone_several.find(section.model_copy(update={"absent_field": None, "unlisted": "absent"})).images
    assert {image.path.stem: image.left_out for image in images} == {
        **dict.fromkeys("012345", ""), "6": fiftyone_dataset.NO_LABEL,
    }  # fmt: skip


@pytest.mark.skipif(find_spec("fiftyone") is not None, reason="FiftyOne is installed")
def test_without_fiftyone_one_line_says_what_to_install(tmp_path):
    process = workspace(tmp_path, dataset="pets")
    assert process.returncode == 1 and not process.stdout
    assert process.stderr == (
        "thaw: download.source: fiftyone needs the package fiftyone: run "
        "`.venv/bin/uv pip install --python .venv/bin/python --require-hashes -r requirements-fiftyone.txt`\n"
    )


def test_a_dataset_must_be_named(tmp_path):
    process = workspace(tmp_path, dataset=None)
    assert process.returncode == 1 and "download.fiftyone.dataset must name a dataset" in process.stderr
