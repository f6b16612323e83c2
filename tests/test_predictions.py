"""The answers of both models, as they are kept: every photograph, sorted, exact."""

import numpy as np
import polars as pl
import pytest

from thaw import predictions, provenance, tables
from thaw.examples import Examples


def examples(names, first_row):
    rows = first_row + np.arange(len(names))
    labels = np.arange(len(names)) % 2
    return Examples(np.array(names), rows[:, None], labels, np.ones(len(names)), np.array(names))


@pytest.fixture
def photographs():
    return predictions.gather(
        {"train": examples(["a", "d"], 0), "validation": examples(["c"], 10), "test": examples(["b", "e"], 20)}
    )


def test_photographs_of_all_splits_are_sorted_with_what_is_theirs(photographs):
    assert photographs.image_ids.tolist() == ["a", "b", "c", "d", "e"]
    assert photographs.splits.tolist() == ["train", "test", "validation", "train", "test"]
    assert photographs.rows.tolist() == [0, 20, 10, 1, 21]
    assert photographs.take(photographs.of("test")).image_ids.tolist() == ["b", "e"]


def test_the_table_and_the_arrays_have_a_row_for_each_photograph_in_one_order(tmp_path, photographs):
    p = {"head": np.linspace(0, 1, 5), "fine_tuned": np.linspace(1, 0, 5)}
    probabilities = {model: np.stack([1 - of_model, of_model], axis=1) for model, of_model in p.items()}
    predictions.write(tmp_path / "out", photographs, ("no", "ja, é"), probabilities, np.full(5, 0.25))
    table = tables.read(tmp_path / "out" / "predictions.csv", {"image_id": pl.String, "label": pl.String})
    assert table.columns == [
        *("image_id", "split", "label", "head_label", "head_probability", "fine_tuned_label"),
        *("fine_tuned_probability", "self_confidence"),
    ]
    assert table["head_label"].to_list() == ["no", "no", "no", "ja, é", "ja, é"]
    assert table["head_probability"].to_list() == [1, 0.75, 0.5, 0.75, 1]
    for model in probabilities:
        kept = np.load(tmp_path / "out" / f"{model}.npy")
        assert kept.dtype == np.float32
        assert (kept == probabilities[model].astype(np.float32)).all()


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
        assert provenance.md5(path) == found.hash_info.value
