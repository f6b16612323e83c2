"""The pipeline with folds: every photograph is tested once, by models that have not seen it."""

import json

import numpy as np
import polars as pl
import pytest
from conftest import scripts_run

from thaw.core import archive
from thaw.features import examples
from thaw.heads import registry


@pytest.fixture(scope="module")
def folded(finished_once):
    """The finished run, divided into three folds instead; of the network nothing thaws, which takes less time."""
    finished_once.set(split__folds=3, fine_tune__keep="fine_tuned", fine_tune__freeze_depth="all")
    ran = finished_once.repro()
    assert ran[0] == "split" and ran[-1] == "evaluate"
    return finished_once


def metrics(run) -> dict:
    return json.loads((run.path / "reports/metrics.json").read_text())


def test_every_photograph_is_tested_once_and_no_group_stands_in_two_folds(folded):
    split = pl.read_csv(folded.path / "data/split.csv")
    predicted = pl.read_csv(folded.path / "data/predictions/predictions.csv")
    assert set(split["split"]) == {"train"} and set(split["fold"]) == {0, 1, 2}
    assert (
        predicted.select("image_id", "fold").sort("image_id").equals(split.select("image_id", "fold").sort("image_id"))
    )
    assert split.group_by("group").agg(pl.col("fold").n_unique())["fold"].max() == 1
    folds = metrics(folded)["folds"]
    assert (folds["count"], folds["kept"], folds["asked_for"]) == (3, "fine_tuned", True)


def test_the_answers_are_those_of_the_heads_that_were_trained_without_the_photograph(folded, monkeypatch):
    monkeypatch.chdir(folded.path)
    images = examples.read(folded.path / "data/features", folded.path / "data/split.csv")
    features = np.load("data/features/features.npy")
    answered = np.load("data/predictions/head.npy")
    for number, part in enumerate(images.rounds()):
        test = part.positions("test")
        head = registry.load_packed(folded.path / "models/folds/head.zip", str(number))
        np.testing.assert_array_equal(
            head.probabilities(features[images.rows[test]]).astype(np.float32), answered[test]
        )
    final = registry.load_packed(folded.path / "models/head/head.zip")
    assert not np.array_equal(final.probabilities(features[images.rows]).astype(np.float32), answered)


def test_the_saved_model_is_none_of_the_rounds_and_knows_its_decision(folded):
    with archive.unpack(folded.path / "models/folds/fine_tuned.zip") as rounds:
        assert len({path.read_bytes() for path in rounds.glob("*.keras")}) == 3
    decision = json.loads((folded.path / "models/decision.json").read_text())
    assert decision["model"] == "fine_tuned"
    photograph = next((folded.path / "photographs/stripes").glob("*.png"))
    result = folded.run("python", "src/predict.py", str(photograph), "--far", "0.9")
    assert result.returncode == 0 and "stripes" in result.stdout, result.stderr


def test_the_head_is_saved_where_a_person_says_so_and_the_rounds_are_as_before(folded):
    rounds = folded.path / "models/folds/fine_tuned.zip"
    with archive.unpack(rounds) as folder:
        before = {path.name: path.read_bytes() for path in folder.glob("*.keras")}
    accuracy = metrics(folded)["fine_tuned"]["test"]
    folded.set(fine_tune__keep="head", fine_tune__prune_above=[1e-9])
    result = folded.dvc("repro")
    assert scripts_run(result.stdout) == ["fine_tune", "evaluate"], result.stderr
    assert "; fine_tune.prune_above has no effect with folds\n" in result.stdout
    with archive.unpack(rounds) as folder:
        after = {path.name: path.read_bytes() for path in folder.glob("*.keras")}
    assert after == before and metrics(folded)["fine_tuned"]["test"] == accuracy
    assert metrics(folded)["folds"]["kept"] == "head"
    assert "It is the head on the network as it came" in (folded.path / "reports/model_card.md").read_text()
    assert folded.repro() == []
