"""Images unlike the training images lie far from them. Of images like them, at most the promised share does."""

import json

import numpy as np
import pytest

from thaw.core.errors import ThawError
from thaw.engines.inference import rebatch
from thaw.prediction import ood

pytestmark = pytest.mark.filterwarnings("error")


def write_features(folder, array, splits, copies=2):
    """Write what an extraction would: of the photograph i, row copies * i plain and copies of it behind."""
    (folder / "features").mkdir()
    np.save(folder / "features/features.npy", array)
    names = [f"image{i:04}" for i in range(len(splits))]
    rows = [f"{name},{copy},{'upright' if copy else ''}\n" for name in names for copy in range(copies)]
    (folder / "features/rows.csv").write_text("image_id,copy,preset\n" + "".join(rows))
    (folder / "features/classes.json").write_text(json.dumps(["dark", "bright"]))
    table = [f"{name},dark,1.0,{name},{split}\n" for name, split in zip(names, splits, strict=True)]
    (folder / "split.csv").write_text("image_id,label,weight,group,split\n" + "".join(table))
    return folder / "features", folder / "split.csv"


def test_the_distance_is_that_to_the_fifth_nearest_by_angle():
    generator = np.random.default_rng(0)
    training, features = generator.normal(size=(40, 6)), generator.normal(size=(9, 6))
    cosines = training @ features.T / np.linalg.norm(training, axis=1)[:, None] / np.linalg.norm(features, axis=1)
    expected = np.sort(1 - cosines, axis=0)[4]
    np.testing.assert_allclose(ood.distances(training.astype(np.float16), features * 7), expected, atol=2e-3)


def test_of_fewer_training_photographs_the_farthest_counts():
    np.testing.assert_allclose(ood.distances(np.eye(3), np.float32([[1, 0, 0]])), [1])


@pytest.mark.parametrize(("count", "share"), [(19, 0.95), (30, 0.9), (200, 0.99)])
def test_of_new_photographs_of_the_kind_no_more_than_promised_lie_beyond_the_limit(count, share):
    generator = np.random.default_rng(0)
    draws = generator.exponential(size=(4000, count + 1))
    beyond = np.mean([new > ood.distance_limit(held_out, share) for *held_out, new in draws])
    scatter = 3 * np.sqrt(share * (1 - share) / len(draws))
    assert 1 - share - 1 / (count + 1) - scatter < beyond < 1 - share + scatter


@pytest.mark.parametrize(("count", "share", "most"), [(18, 0.95, 0.9473), (98, 0.99, 0.9898)])
def test_too_few_validation_photographs_are_refused_with_the_share_that_they_allow(count, share, most):
    with pytest.raises(ThawError, match=f"^{count} held-out photographs are too few .* at most {most}$"):
        ood.distance_limit(np.arange(count), share)
    assert ood.distance_limit(np.arange(count), most) == count - 1
    assert ood.distance_limit(np.arange(count + 1), share) == count


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)], ids=["pooled", "maps"])
def test_plain_photographs_count_and_maps_are_pooled(tmp_path, monkeypatch, shape):
    array = np.random.default_rng(0).normal(size=(16, *shape)).astype(np.float16)
    folder, split = write_features(tmp_path, array, ["test", "train", "validation", "train"] * 2)
    monkeypatch.setattr(ood.arrays, "BLOCK_BYTES", 2 * array[:1].nbytes)
    training, [(validation, _)] = ood.read_features(folder, split)
    pooled = array if array.ndim == 2 else array.mean(axis=(1, 2), dtype=np.float32).astype(np.float16)
    np.testing.assert_array_equal(training, pooled[[2, 6, 10, 14]])
    np.testing.assert_array_equal(validation, pooled[[4, 12]])


def test_of_many_validation_photographs_the_same_part_is_drawn_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(ood, "MAX_HELD_OUT", 10)
    array = np.arange(200, dtype=np.float16).reshape(100, 2)
    folder, split = write_features(tmp_path, array, ["train"] + ["validation"] * 98 + ["test"], copies=1)
    (_, [(first, _)]), (_, [(second, _)]) = ood.read_features(folder, split), ood.read_features(folder, split)
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first[:, 0])) == 10 and first.min() > 1 and first.max() < 198


@pytest.mark.parametrize("batch", [1, 2, 50])
def test_the_engine_measures_every_view_in_order(batch, monkeypatch):
    monkeypatch.setattr(ood, "BLOCK_IMAGES", 4)
    generator = np.random.default_rng(0)
    training, maps = generator.normal(size=(20, 3)), generator.normal(size=(11, 2, 2, 3)).astype(np.float32)
    measured = list(ood.distance_engine(iter, training)(rebatch([maps], batch)))
    assert [len(part) for part in measured] == [4, 4, 3]
    expected = ood.distances(training, maps.mean(axis=(1, 2)))
    np.testing.assert_allclose(np.concatenate(measured), expected, atol=1e-6)


def test_with_folds_each_photograph_is_compared_with_the_training_photographs_of_other_folds(tmp_path):
    array = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    folder, split = write_features(tmp_path, array, ["train"] * 6, copies=1)
    first, *lines = split.read_text().splitlines()
    split.write_text("\n".join([f"{first},fold", *(f"{line},{i % 3}" for i, line in enumerate(lines))]) + "\n")
    training, held_out = ood.read_features(folder, split)
    assert [known.tolist() for _, known in held_out] == [[1, 2, 4, 5], [0, 2, 3, 5], [0, 1, 3, 4]]
    for fold, (features, _) in enumerate(held_out):
        np.testing.assert_array_equal(features, training[[fold, fold + 3]])
