"""What both models predict, as it is kept: every image, in one order, exact."""

import numpy as np
import polars as pl
import pytest

from thaw.core import hashes, tables
from thaw.evaluation import predictions
from thaw.evaluation.predictions import Predictions
from thaw.features.examples import Examples


@pytest.fixture
def predicted():
    ids, labels = np.array(list("abcde")), np.array([0, 0, 0, 1, 1])
    splits = np.array(["train", "test", "validation", "train", "test"])
    examples = Examples(ids, splits, np.array([[0], [20], [10], [1], [21]]), labels, np.ones(5), ids)
    p = {"head": np.linspace(0, 1, 5), "fine_tuned": np.linspace(1, 0, 5)}
    probabilities = {model: np.stack([1 - positive, positive], axis=1) for model, positive in p.items()}
    return Predictions(examples, ("no", "ja, é"), probabilities, np.linspace(0.2, 0.6, 5), np.zeros(5, int))


def test_a_split_has_all_that_is_predicted_for_its_images(predicted):
    test = predicted.split("test")
    assert test.examples.image_ids.tolist() == ["b", "e"] and test.examples.rows.tolist() == [20, 21]
    assert test.probabilities["head"][:, 1].tolist() == [0.25, 1]
    assert test.self_confidence.tolist() == pytest.approx([0.3, 0.6])
    assert test.classes == predicted.classes


def test_the_scored_images_of_a_model_have_its_probabilities(predicted):
    scored = predicted.scored()["fine_tuned"]
    assert scored.predictions.tolist() == [1, 1, 0, 0, 0]
    assert scored.hits.tolist() == [False, False, True, False, False]
    assert scored.groups.tolist() == list("abcde")
    flipped = predicted.with_probabilities({"other": predicted.probabilities["fine_tuned"][:, ::-1]}).scored()
    assert list(flipped) == ["other"] and flipped["other"].predictions.tolist() == [0, 0, 0, 1, 1]


def test_the_table_and_the_arrays_have_a_row_for_each_image_in_one_order(tmp_path, predicted):
    predictions.write(tmp_path / "out", predicted)
    table = tables.read(tmp_path / "out" / "predictions.csv", {"image_id": pl.String, "label": pl.String})
    assert table.columns == [
        *("image_id", "split", "label", "head_label", "head_probability", "fine_tuned_label"),
        *("fine_tuned_probability", "self_confidence"),
    ]
    assert table["image_id"].to_list() == list("abcde")
    assert table["label"].to_list() == ["no", "no", "no", "ja, é", "ja, é"]
    assert table["head_label"].to_list() == ["no", "no", "no", "ja, é", "ja, é"]
    assert table["head_probability"].to_list() == [1, 0.75, 0.5, 0.75, 1]
    for model, probabilities in predicted.probabilities.items():
        kept = np.load(tmp_path / "out" / f"{model}.npy")
        assert kept.dtype == np.float32
        assert (kept == probabilities.astype(np.float32)).all()


def test_a_file_and_a_folder_have_the_hash_that_dvc_gives_them(tmp_path, dvc_of_its_own):
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_objects.fs.local import localfs

    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    for name in ("b.txt", "a é.txt", "below/c.txt"):
        (folder / name).write_text(name)
    odb = LocalHashFileDB(localfs, str(tmp_path / "odb"))
    for path in (folder, folder / "b.txt"):
        _, _, found = build(odb, str(path), localfs, "md5", dry_run=True)
        assert hashes.md5(path) == found.hash_info.value
