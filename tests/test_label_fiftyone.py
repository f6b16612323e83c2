"""The hand-over as a FiftyOne dataset, with the real FiftyOne and its database; skipped where they are missing."""

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fiftyone_database import own_database
from PIL import Image

from thaw.core.errors import ThawError
from thaw.labelling import fiftyone_tags, returned, taking
from thaw.labelling.hand_over import Item

pytestmark = pytest.mark.skipif(
    not find_spec("fiftyone"), reason="FiftyOne is not installed: requirements-fiftyone.txt"
)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[None]:
    with own_database(tmp_path_factory.mktemp("fiftyone")):
        yield


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


def test_the_photographs_come_with_a_tag_and_the_answer_and_their_labels_go_back(database, tmp_path):
    import fiftyone as fo

    assert fiftyone_tags.write("label me", items(tmp_path, 1, 2, 3)) == 3
    dataset = fo.load_dataset("label me")
    assert dataset.persistent and len(dataset.match_tags(fiftyone_tags.TAG)) == 3
    first = dataset.match({"rank": 1}).first()
    assert (first.prediction.label, first.prediction.confidence, first.reason) == ("cat", 0.75, "cat or dog")
    assert first.ground_truth is None
    for rank, label in ((1, "dog"), (2, "cat")):
        sample = dataset.match({"rank": rank}).first()
        sample["ground_truth"] = fo.Classification(label=label)
        sample.tags.append("mine")
        sample.save()
    given = returned.read("fiftyone:label me", None, fiftyone_tags.labels)
    taken = taking.decide(given, taking.Labelled(("cat", "dog"), {}, {}), "x")
    assert {path.name: label for path, label, _ in taken.added} == {"1.png": "dog", "2.png": "cat"}
    assert taken.unlabelled == 1 and not taken.conflicts

    assert fiftyone_tags.write("label me", items(tmp_path, 3, 4)) == 1
    dataset = fo.load_dataset("label me")
    dataset.reload()
    tagged = dataset.match_tags(fiftyone_tags.TAG)
    assert sorted(Path(path).name for path in tagged.values("filepath")) == ["3.png", "4.png"]
    assert sorted(filter(None, dataset.values("ground_truth.label"))) == ["cat", "dog"]
    assert len(dataset.match_tags("mine")) == 2


def test_a_dataset_of_another_kind_is_left_alone(database, tmp_path):
    import fiftyone as fo

    fo.Dataset("pets", persistent=True)
    with pytest.raises(ThawError, match="is not one to label"):
        fiftyone_tags.write("pets", items(tmp_path, 1))
    with pytest.raises(ThawError, match=r"has no dataset 'petz' \(did you mean pets"):
        list(fiftyone_tags.labels("petz"))
    with pytest.raises(ThawError, match="has no field 'ground_truth'"):
        list(fiftyone_tags.labels("pets"))
    assert not len(fo.load_dataset("pets"))


def test_labels_of_another_field_are_read(database, tmp_path):
    import fiftyone as fo

    own = fo.Dataset("own", persistent=True)
    (item,) = items(tmp_path, 5)
    own.add_sample(fo.Sample(filepath=str(item.path), kind=fo.Classification(label="bee")))
    (found,) = returned.read("fiftyone:own", None, lambda name: fiftyone_tags.labels(name, "kind"))
    assert (found.path, found.label, found.problem) == (item.path, "bee", "")
