"""What `evaluate` leaves behind in the run that the tests of the pipeline share agrees with itself and with DVC."""

import json
import re
import sys

import numpy as np
import polars as pl
import pytest

from thaw import calibration, evaluation, tables
from thaw.errors import ThawError

MODELS = ("head", "fine_tuned")


def read_json(run_dir, name):
    return json.loads((run_dir / name).read_text())


def answers(run_dir):
    schema = {"image_id": pl.String, "split": pl.String, "label": pl.String}
    table = tables.read(run_dir / "data" / "predictions" / "predictions.csv", schema)
    return table, {model: np.load(run_dir / "data" / "predictions" / f"{model}.npy") for model in MODELS}


def test_every_photograph_of_every_split_has_its_answers(run_dir):
    table, probabilities = answers(run_dir)
    split = tables.read(run_dir / "data" / "split.csv", tables.SPLIT).sort("image_id")
    assert table.select("image_id", "split", "label").equals(split.select("image_id", "split", "label"))
    assert set(table["split"]) == set(tables.SPLITS)
    classes = np.array(read_json(run_dir, "models/decision.json")["class_names"])
    for model, p in probabilities.items():
        assert p.dtype == np.float32
        assert p.sum(axis=1) == pytest.approx(np.ones(len(table)), abs=1e-6)
        assert (classes[p.argmax(axis=1)] == table[f"{model}_label"].to_numpy()).all()
        assert p.max(axis=1) == pytest.approx(table[f"{model}_probability"].to_numpy(), abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_the_answers_are_those_that_the_metrics_count(run_dir, model, part):
    table, probabilities = answers(run_dir)
    scores = read_json(run_dir, "reports/metrics.json")[model][part]
    classes = read_json(run_dir, "models/decision.json")["class_names"]
    rows = (table["split"] == part).to_numpy()
    labels = np.array([classes.index(label) for label in table["label"].to_numpy()[rows]])
    assert (table[f"{model}_label"] == table["label"]).to_numpy()[rows].mean() == pytest.approx(scores["accuracy"])
    likelihoods = probabilities[model][rows][np.arange(len(labels)), labels]
    assert -np.log(likelihoods.astype(float)).mean() == pytest.approx(scores["log_loss"], rel=1e-5, abs=1e-6)


def test_the_temperature_changes_no_answer_and_does_no_harm_on_validation(run_dir):
    _, probabilities = answers(run_dir)
    scores = read_json(run_dir, "reports/metrics.json")["calibration"]
    for model, decided in read_json(run_dir, "models/decision.json")["models"].items():
        assert decided["temperature"] == scores[model]["temperature"]
        p = probabilities[model].astype(float)
        calibrated = calibration.apply_temperature(p, decided["temperature"])
        assert (calibrated.argmax(axis=1) == p.argmax(axis=1)).all()
        validation = scores[model]["validation"]
        assert validation["log_loss_weighted_calibrated"] <= validation["log_loss_weighted"]


def test_metrics_are_scalars(run_dir):
    def leaves(value):
        return [leaf for part in value.values() for leaf in leaves(part)] if isinstance(value, dict) else [value]

    metrics = read_json(run_dir, "reports/metrics.json")
    assert list(metrics) == ["head", "fine_tuned", "baselines", "comparison", "calibration", "threshold"]
    assert all(leaf is None or isinstance(leaf, int | float) for leaf in leaves(metrics))


def test_the_hashes_in_the_report_are_those_of_the_lock_file(run_dir):
    report = (run_dir / "reports" / "report.html").read_text()
    lock = (run_dir / "dvc.lock").read_text()
    for path in ("data/split.csv", "data/features", "data/activations", "models/head", "models/model.keras"):
        md5 = re.search(rf"<code>{re.escape(path)}</code></th><td class=\"text\"><code>(\w+(?:\.dir)?)</code>", report)[
            1
        ]
        assert f"md5: {md5}\n" in lock, path


def test_the_report_is_small_and_names_no_place_of_this_machine(run_dir):
    report = (run_dir / "reports" / "report.html").read_bytes()
    assert len(report) < 5_000_000
    assert str(run_dir).encode() not in report + (run_dir / "reports" / "model_card.md").read_bytes()


def test_a_photograph_deleted_after_the_run_is_a_line_in_the_report(finished):
    report = finished.path / "reports" / "report.html"
    shown = re.findall(r"<figcaption>([^<]+?) <small>", report.read_text())
    paths = dict(tables.read_images(finished.path / "data" / "raw").select("image_id", "path").iter_rows())
    (finished.path / "data" / "raw" / paths[shown[0]]).unlink()
    before = (finished.path / "reports" / "metrics.json").read_bytes()
    result = finished.run(sys.executable, "src/evaluate.py")
    assert result.returncode == 0, result.stderr
    assert "1 photograph could not be read when this report was written" in report.read_text()
    assert (finished.path / "reports" / "metrics.json").read_bytes() == before


def test_a_threshold_is_refused_where_there_are_more_than_two_classes():
    with pytest.raises(ThawError, match=r"evaluate\.threshold 'best_f1' wants two classes"):
        evaluation.thresholds(None, {"head": np.ones((4, 3)) / 3}, "best_f1")
    assert evaluation.thresholds(None, {"head": np.ones((4, 3)) / 3}, 0.5) == {}
