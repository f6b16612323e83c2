"""The hand-over as a FiftyOne dataset, with the real FiftyOne and its database; skipped where they are missing."""

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fiftyone_database import own_database
from PIL import Image

from thaw.core.errors import ThawError
from thaw.labelling import fiftyone_tags, returned, taking
from thaw.labelling.hand_over import Item
from thaw.labelling.returned import Returned

pytestmark = pytest.mark.skipif(
    not find_spec("fiftyone"), reason="FiftyOne is not installed: requirements-fiftyone.txt"
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """Runs a function of this module in a process with FiftyOne and a database of its own."""
    with (
        own_database(tmp_path_factory.mktemp("fiftyone")),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
    ):
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def items(folder: Path, *numbers: int) -> list[Item]:
    found = []
    for number in numbers:
        path = folder / f"{number}.png"
        if not path.exists():
            pixels = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(Item(path, sha256, 0.5 + number / 100, "cat or dog", "cat", 0.75))
    return found


# What the worker runs: none of it imports FiftyOne here


def give_labels(name: str, labels: dict[int, str]) -> None:
    """Label photographs, by their rank, and tag them, as a person does in the App."""
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    for rank, label in labels.items():
        sample = dataset.match({"rank": rank}).first()
        sample[fiftyone_tags.LABEL] = fo.Classification(label=label)
        sample.tags.append("mine")
        sample.save()


def contents(name: str) -> dict[str, dict]:
    """Return what is known of each photograph, by its name."""
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    dataset.reload()
    found = {}
    for sample in dataset:
        label, predicted = sample[fiftyone_tags.LABEL], sample[fiftyone_tags.PREDICTION]
        found[Path(sample.filepath).name] = {
            "tags": sorted(sample.tags),
            "label": label and label.label,
            "prediction": predicted and (predicted.label, predicted.confidence),
            "reason": sample["reason"],
        }
    return found


def make(name: str, path: str = "", field: str = "") -> None:
    """Make a dataset that a person has."""
    import fiftyone as fo

    dataset = fo.Dataset(name, persistent=True)
    if path:
        dataset.add_sample(fo.Sample(filepath=path, **{field: fo.Classification(label="bee")}))


def came_back(name: str, field: str = fiftyone_tags.LABEL) -> list[Returned]:
    return returned.read(f"fiftyone:{name}", None, lambda dataset: fiftyone_tags.labels(dataset, field))


def test_the_photographs_come_with_a_tag_and_the_predicted_and_their_labels_go_back(worker, tmp_path):
    assert worker(fiftyone_tags.write, "label me", items(tmp_path, 1, 2, 3)) == (3, 0)
    first = {"tags": ["to label"], "label": None, "prediction": ("cat", 0.75), "reason": "cat or dog"}
    assert worker(contents, "label me") == dict.fromkeys(("1.png", "2.png", "3.png"), first)

    worker(give_labels, "label me", {1: "dog", 2: "cat"})
    taken = taking.decide(worker(came_back, "label me"), taking.Labelled(("cat", "dog"), {}, {}), "x")
    assert {path.name: label for path, label, _ in taken.added} == {"1.png": "dog", "2.png": "cat"}
    assert taken.unlabelled == 1 and not taken.conflicts

    assert worker(fiftyone_tags.write, "label me", items(tmp_path, 3, 4)) == (1, 0)
    after = worker(contents, "label me")
    assert {name: known["tags"] for name, known in after.items()} == {
        "1.png": ["mine"], "2.png": ["mine"], "3.png": ["to label"], "4.png": ["to label"]
    }  # fmt: skip
    assert (after["1.png"]["label"], after["2.png"]["label"]) == ("dog", "cat")


def test_the_label_of_an_earlier_file_is_not_that_of_the_one_that_has_its_name_now(worker, tmp_path):
    worker(fiftyone_tags.write, "camera", items(tmp_path, 6, 7))
    worker(give_labels, "camera", {1: "dog", 2: "cat"})
    (tmp_path / "6.png").unlink()
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "6.png")
    again = [replace(item, predicted=None, probability=None) for item in items(tmp_path, 6, 7)]
    assert worker(fiftyone_tags.write, "camera", again) == (0, 1)
    found = worker(contents, "camera")
    assert (found["6.png"]["label"], found["6.png"]["prediction"]) == (None, None)
    assert (found["7.png"]["label"], found["7.png"]["prediction"]) == ("cat", ("cat", 0.75))


def test_a_dataset_of_another_kind_is_left_alone(worker, tmp_path):
    worker(make, "pets")
    with pytest.raises(ThawError, match="is not one to label"):
        worker(fiftyone_tags.write, "pets", items(tmp_path, 1))
    with pytest.raises(ThawError, match=r"has no dataset 'petz' \(did you mean pets"):
        worker(came_back, "petz")
    with pytest.raises(ThawError, match="has no field 'ground_truth'"):
        worker(came_back, "pets")
    assert worker(contents, "pets") == {}


def test_labels_of_another_field_are_read(worker, tmp_path):
    (item,) = items(tmp_path, 5)
    worker(make, "own", str(item.path), "kind")
    (found,) = worker(came_back, "own", "kind")
    assert (found.path, found.label, found.problem) == (item.path, "bee", "")
