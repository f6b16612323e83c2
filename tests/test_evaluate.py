"""What `evaluate` leaves behind in the run that the tests of the pipeline share agrees with itself and with DVC."""

import json
import re
import shutil
import sys

import numpy as np
import polars as pl
import pytest
from conftest import ROOT, Checkout
from PIL import Image

from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.parameters.evaluate import Evaluate
from thaw.report import provenance
from thaw.training.temperature import apply_temperature

MODELS = ("head", "fine_tuned")


def read_json(run_dir, name):
    return json.loads((run_dir / name).read_text())


def predictions(run_dir):
    schema = {"image_id": pl.String, "split": pl.String, "label": pl.String}
    table = tables.read(run_dir / "data" / "predictions" / "predictions.csv", schema)
    return table, {model: np.load(run_dir / "data" / "predictions" / f"{model}.npy") for model in MODELS}


def test_every_photograph_of_every_split_has_its_predictions(run_dir):
    table, probabilities = predictions(run_dir)
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
def test_the_predictions_are_those_that_the_metrics_count(run_dir, model, part):
    table, probabilities = predictions(run_dir)
    scores = read_json(run_dir, "reports/metrics.json")[model][part]
    classes = read_json(run_dir, "models/decision.json")["class_names"]
    rows = (table["split"] == part).to_numpy()
    labels = np.array([classes.index(label) for label in table["label"].to_numpy()[rows]])
    assert (table[f"{model}_label"] == table["label"]).to_numpy()[rows].mean() == pytest.approx(scores["accuracy"])
    likelihoods = probabilities[model][rows][np.arange(len(labels)), labels]
    assert -np.log(likelihoods.astype(float)).mean() == pytest.approx(scores["log_loss"], rel=1e-5, abs=1e-6)


def test_the_temperature_changes_no_prediction_and_does_no_harm_on_validation(run_dir):
    _, probabilities = predictions(run_dir)
    scores = read_json(run_dir, "reports/metrics.json")["calibration"]
    for model, decided in read_json(run_dir, "models/decision.json")["models"].items():
        assert decided["temperature"] == scores[model]["temperature"]
        p = probabilities[model].astype(float)
        calibrated = apply_temperature(p, decided["temperature"])
        assert (calibrated.argmax(axis=1) == p.argmax(axis=1)).all()
        validation = scores[model]["validation"]
        assert validation["log_loss_weighted_calibrated"] <= validation["log_loss_weighted"]


def test_the_sets_that_a_user_of_decision_json_makes_are_those_that_were_measured(run_dir):
    table, probabilities = predictions(run_dir)
    decision = read_json(run_dir, "models/decision.json")
    test = (table["split"] == "test").to_numpy()
    labels = np.array([decision["class_names"].index(label) for label in table["label"].to_numpy()[test]])
    for model, measured in read_json(run_dir, "reports/metrics.json")["sets"].items():
        decided = decision["models"][model]
        calibrated = apply_temperature(probabilities[model][test].astype(float), decided["temperature"])
        predicted = calibrated.argmax(axis=1)
        if decided["threshold"] is not None:
            predicted = (calibrated[:, 1] > decided["threshold"]).astype(int)
        for level, scores in measured.items():
            members = calibrated >= decided["sets"][level]
            members[np.arange(len(labels)), predicted] = True
            assert members[np.arange(len(labels)), labels].mean() == pytest.approx(scores["coverage"])
            assert members.sum(axis=1).mean() == pytest.approx(scores["mean_size"])


def test_the_kernels_and_versions_are_recorded_in_git(run_dir):
    assert read_json(run_dir, "reports/provenance.json") == provenance.computed_with()
    ignored = Checkout(run_dir).run("git", "check-ignore", "--quiet", "reports/provenance.json")
    assert ignored.returncode == 1


def test_metrics_are_scalars(run_dir):
    def leaves(value):
        return [leaf for part in value.values() for leaf in leaves(part)] if isinstance(value, dict) else [value]

    metrics = read_json(run_dir, "reports/metrics.json")
    parts = ["head", "fine_tuned", "baselines", "comparison", "calibration", "threshold", "sets", "learning_curve"]
    assert list(metrics) == parts
    assert all(leaf is None or isinstance(leaf, int | float) for leaf in leaves(metrics))


def test_the_hashes_in_the_report_are_those_of_the_lock_file(run_dir):
    report = (run_dir / "reports" / "report.html").read_text()
    lock = (run_dir / "dvc.lock").read_text()
    features, activations = "data/features/features.npy", "data/activations/activations.npy"
    for path in ("data/split.csv", features, activations, "models/head/head.zip", "models/model.keras"):
        cell = rf"<code>{re.escape(path)}</code></th><td class=\"text\"><code><bdi>(\w+)</bdi></code>"
        md5 = re.search(cell, report)[1]
        assert f"md5: {md5}\n" in lock, path


def test_the_report_is_small_and_names_no_place_of_this_machine(run_dir):
    report = (run_dir / "reports" / "report.html").read_bytes()
    assert len(report) < 5_000_000
    assert str(run_dir).encode() not in report + (run_dir / "reports" / "model_card.md").read_bytes()


def test_a_photograph_deleted_after_the_run_is_a_line_in_the_report(finished):
    report = finished.path / "reports" / "report.html"
    shown = re.findall(r"<figcaption><bdi>([^<]+?)</bdi> <small>", report.read_text())
    paths = dict(tables.read_images(finished.path / "data" / "raw").select("image_id", "path").iter_rows())
    (finished.path / "data" / "raw" / paths[shown[0]]).unlink()
    before = (finished.path / "reports" / "metrics.json").read_bytes()
    result = finished.run(sys.executable, "src/evaluate.py")
    assert result.returncode == 0, result.stderr
    assert "1 photograph could not be read when this report was written" in report.read_text()
    assert (finished.path / "reports" / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("threshold", ["best_f1", "recall:0.95", 0.3])
def test_a_threshold_needs_two_classes(threshold):
    rest = {"multi_aim": "best_f1", "bootstrap": 100, "bins": 10, "shown": 3, "seed": 1}
    evaluate = Evaluate(test_time_flips=None, threshold=threshold, **rest)
    evaluate.check_classes(("a", "b"))
    with pytest.raises(ThawError, match=rf"^evaluate\.threshold '?{threshold}'? needs two classes, and there are 3: "):
        evaluate.check_classes(("a", "b", "c"))
    evaluate.model_copy(update={"threshold": 0.5}).check_classes(("a", "b", "c"))


@pytest.fixture
def three_classes(tmp_path):
    """A folder of three classes, and parameters that a threshold for two of them is chosen with."""
    for label in ("apple", "banana", "cherry"):
        (tmp_path / "photographs" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (64, 64)).save(tmp_path / "photographs" / label / f"{number}.png")
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    checkout = Checkout(tmp_path)
    checkout.set(download__source="folder", download__folder__path="photographs", evaluate__threshold="best_f1")
    return checkout


def test_a_threshold_that_three_classes_cannot_have_ends_download_before_anything_is_written(three_classes):
    before = sorted(three_classes.path.rglob("*"))
    result = three_classes.run(sys.executable, str(ROOT / "src" / "download.py"))
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "evaluate.threshold 'best_f1' needs two classes, and there are 3" in result.stderr
    assert sorted(three_classes.path.rglob("*")) == before
    three_classes.set(evaluate__threshold=0.5)
    assert three_classes.run(sys.executable, str(ROOT / "src" / "download.py")).returncode == 0


def test_a_threshold_that_three_classes_cannot_have_ends_train_head_before_anything_is_written(
    three_classes, monkeypatch
):
    import train_head

    features = three_classes.path / "data" / "features"
    features.mkdir(parents=True)
    np.save(features / "features.npy", np.zeros((3, 4), np.float16))
    (features / "classes.json").write_text('["apple", "banana", "cherry"]')
    before = sorted(three_classes.path.rglob("*"))
    monkeypatch.chdir(three_classes.path)
    with pytest.raises(ThawError, match=r"evaluate\.threshold 'best_f1' needs two classes"):
        train_head.main()
    assert sorted(three_classes.path.rglob("*")) == before
