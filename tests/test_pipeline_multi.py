"""Several labels through the stages: the recipe `animals-together` with a replica of Open Images, up to the model."""

import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import yaml
from conftest import ROOT, Checkout, make_source
from replica import Data, Replica
from sklearn.metrics import average_precision_score

from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN
from thaw.core.tables import SPLITS
from thaw.features import examples
from thaw.heads import registry

IDS = {"/m/0pcr": "Alpaca", "/m/01x_v": "Camel", "/m/03fwl": "Goat", "/m/07bgp": "Sheep", "/m/01g317": "Person"}
STAGES = (
    "download",
    "split",
    "augment",
    "backbone",
    "extract_features",
    "train_head",
    "extract_activations",
    "fine_tune",
)
SMALL = {
    "image.size": 32, "augment.copies": 1, "head.strengths": [0.01, 0.1, 1.0], "fine_tune.freeze_depth": "block7",
    "fine_tune.epochs": 2, "fine_tune.batch_size": 8, "fine_tune.warmup_epochs": 0, "evaluate.bootstrap": 100,
}  # fmt: skip
COLOURS = {"Alpaca": 0, "Camel": 1, "Goat": 2}  # these darken a colour of their half; Sheep are stripes, Person a disc


def photograph(shown: set[str], generator: np.random.Generator) -> bytes:
    """A drawn photograph of 48 × 48 pixels in which each class has a sign of its own."""
    pixels = generator.integers(120, 200, (48, 48, 3)).astype(np.uint8)
    for name, channel in COLOURS.items():
        if name in shown:
            pixels[:24, 16 * channel : 16 * channel + 16] = np.eye(3)[channel] * 255
    if "Sheep" in shown:
        pixels[24::4] = 0
    if "Person" in shown:
        cv2.circle(pixels, (24, 36), 9, (255, 255, 255), -1)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def animals(count: int = 70) -> Data:
    """Photographs of which each class is there or not, and verified or not; one verdict contradicts itself."""
    generator = np.random.default_rng(1)
    rows, photographs = [], {}
    for number in range(count):
        image = hashlib.sha256(str(number).encode()).hexdigest()[:16]
        shown = {name for name in IDS.values() if generator.random() < 0.45}
        photographs[f"train/{image}"] = photograph(shown, generator)
        for class_id, name in IDS.items():
            if generator.random() < 0.75:
                rows.append((image, class_id, str(int(name in shown))))
    rows.append((rows[0][0], rows[0][1], str(1 - int(rows[0][2]))))
    return Data(IDS, {subset: rows if subset == "train" else [] for subset in SPLITS}, photographs=photographs)


@pytest.fixture(scope="module")
def run(tmp_path_factory, dvc_of_its_own) -> tuple[Checkout, dict[str, str]]:
    """The scratch repository after the stages, and what each printed."""
    checkout = make_source(tmp_path_factory.mktemp("multi") / "run", SMALL, lambda folder: folder.mkdir())
    assert checkout.run(sys.executable, "src/recipe.py", "animals-together").returncode == 0
    said = {}
    with Replica(animals()) as replica:
        urls = dict.fromkeys(
            ("download__open_images__annotations_url", "download__open_images__images_url"), replica.url
        )
        checkout.set(**urls, download__open_images__cache_dir=str(checkout.path / "cache"))
        for stage in STAGES:
            result = checkout.run(sys.executable, f"src/{stage}.py")
            assert result.returncode == 0, result.stdout + result.stderr
            said[stage] = result.stdout
    return checkout, said


def table(run, name: str) -> pl.DataFrame:
    return pl.read_csv(run[0].path / name)


def read(run) -> examples.Examples:
    path = run[0].path
    return examples.read(path / "data/features", path / "data/split.csv", labels_file=path / "data/raw/labels.csv")


def test_each_class_is_known_to_be_present_and_absent_in_each_split(run):
    images = read(run)
    for split in SPLITS:
        values = images.split(split).values
        assert ((values == PRESENT).any(axis=0) & (values == ABSENT).any(axis=0)).all()
    verdicts: dict[tuple[str, str], set[str]] = {}
    for image, class_id, verdict in animals().labels["train"]:
        verdicts.setdefault((image, IDS[class_id]), set()).add(verdict)
    known = {pair: int(*of_pair) for pair, of_pair in verdicts.items() if len(of_pair) == 1}
    classes = ("Alpaca", "Camel", "Goat", "Sheep", "Person")
    expected = [[known.get((image, name), UNKNOWN) for name in classes] for image in images.image_ids]
    np.testing.assert_array_equal(images.values, expected)
    assert len(images) == 70 and ((images.value_weights > 0) == (images.values != UNKNOWN)).all()
    assert "1 pairs that were verified both ways are taken as unknown" in run[1]["download"]


def test_one_photograph_has_its_labels_in_every_table(run):
    images, split, labels = (table(run, f"data/{name}.csv") for name in ("raw/images", "split", "raw/labels"))
    several = labels.filter(value=1).group_by("image_id").len().filter(pl.col("len") > 1)["image_id"].sort()[0]
    shown = labels.filter(image_id=several, value=1)["label"].sort().to_list()
    for frame in (images, split):
        assert frame.filter(image_id=several)["label"].to_list() == [" + ".join(shown)]


def test_the_head_and_the_model_have_a_probability_for_each_class_by_itself(run):
    path, images = run[0].path, read(run)
    head = registry.load_packed(path / "models/head/head.zip")
    assert head.task == "multi" and len(head.Cs) == 5
    features = np.load(path / "data/features/features.npy")
    p = head.probabilities(features[images.split("test").rows])
    values = images.split("test").values
    right = ((p > 0.5) == (values == PRESENT))[values != UNKNOWN].mean()
    assert right > 0.7 and (p.sum(axis=1) > 1.5).any()
    with zipfile.ZipFile(path / "models/model.keras") as file:
        metadata = json.loads(file.read("metadata.json"))
    assert metadata["task"] == "multi" and metadata["class_names"] == list(head.classes)
    assert "logistic regression of each of 5 classes" in run[1]["train_head"]


def predict(run, *options: str):
    paths = sorted((run[0].path / "data/raw/images").glob("*.jpg"))[:6]
    command = [sys.executable, "src/predict.py", "--cache", str(run[0].path / "networks"), *options, *map(str, paths)]
    return run[0].run(*command)


def decide(run, threshold: float) -> None:
    path = run[0].path / "models"
    classes = json.loads((run[0].path / "data/features/classes.json").read_text())
    md5 = hashlib.md5((path / "model.keras").read_bytes()).hexdigest()
    decision = {"task": "multi", "classes": classes, "model": "fine_tuned", "model_md5": md5, "test_time_flips": None}
    decision |= {"temperatures": dict.fromkeys(classes, 2.0), "thresholds": dict.fromkeys(classes, threshold)}
    (path / "decision.json").write_text(json.dumps(decision))


def test_predictions_are_all_labels_above_their_thresholds(run):
    plain = predict(run, "--json")
    assert plain.returncode == 0 and "all thresholds are 0.5" in plain.stderr
    raw = [json.loads(line)["probabilities"] for line in plain.stdout.splitlines()]
    decide(run, 0.4)
    rows = [json.loads(line) for line in predict(run, "--json").stdout.splitlines()]
    for row, of_model in zip(rows, raw, strict=True):
        p = np.array(list(of_model.values())).clip(1e-6, 1 - 1e-6)
        expected = 1 / (1 + ((1 - p) / p) ** 0.5)  # at a temperature of 2
        np.testing.assert_allclose(list(row["probabilities"].values()), expected, atol=2e-3)
        assert set(row["labels"]) == {name for name, p in row["probabilities"].items() if p > 0.4}
        assert row["labels"] == sorted(row["labels"], key=row["probabilities"].get, reverse=True)
    csv_file = run[0].path / "predicted.csv"
    for _ in range(2):  # a table of an earlier prediction is replaced
        assert predict(run, "--csv", str(csv_file)).returncode == 0
    written = pl.read_csv(csv_file)
    assert written.columns == ["path", "labels", "error", *(f"probability_{name}" for name in rows[0]["probabilities"])]
    assert [json.loads(text) for text in written["labels"]] == [row["labels"] for row in rows]
    lines = predict(run).stdout.splitlines()
    assert all(name in line for row, line in zip(rows, lines, strict=True) for name in row["labels"] or ["none"])


@pytest.mark.parametrize("option", [("--top", "2"), ("--unsure", "0.5"), ("--sets", "0.9")])
def test_options_for_one_label_are_refused_in_one_line(run, option):
    result = predict(run, *option)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and not result.stdout
    assert f"{option[0]} needs a model of one label for each photograph" in result.stderr


def test_an_export_gives_the_same_probabilities_and_carries_thresholds_and_temperatures(run):
    decide(run, 0.4)
    result = run[0].run(sys.executable, "src/export.py", "--format", "tflite")
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(run[0].path / "models/exports/model.tflite") as file:
        metadata = json.loads(file.read("metadata.json"))
        assert file.read("labels.txt").decode().splitlines() == metadata["class_names"]
    assert metadata["thresholds"] == [0.4] * 5 and metadata["temperatures"] == [2.0] * 5
    assert metadata["task"] == "multi" and "an image may show several" in metadata["output"]


def test_drift_compares_photographs_and_expects_no_accuracy(run, tmp_path):
    (tmp_path / "new").mkdir()
    for image, content in animals().photographs.items():
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) // 3
        cv2.imwrite(str(tmp_path / "new" / f"{Path(image).name}.png"), pixels)
    committed = run[0].run("dvc", "commit", "--force", "extract_features")  # dvc.lock says with which size
    assert committed.returncode == 0, committed.stderr
    options = ("--cache", str(run[0].path / "networks"), "--output", str(tmp_path / "drift.html"))
    result = run[0].run(sys.executable, "src/drift.py", str(tmp_path / "new"), "--json", *options)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["new"] == 70 and found["differ"] is True and found["answers"] == {}
    brightness = found["measures"]["brightness"]
    assert brightness["new"][1] < 0.5 * brightness["held_out"][1]
    assert "the model gives several labels for each photograph" in (tmp_path / "drift.html").read_text()


def test_another_task_beside_the_photographs_of_an_earlier_run_is_one_line(run):
    checkout = run[0]
    before = (checkout.path / "params.yaml").read_text()
    try:
        checkout.set(task="single")
        for stage in ("split", "train_head"):
            result = checkout.run(sys.executable, f"src/{stage}.py")
            assert result.returncode == 1 and result.stderr.count("\n") == 1
            assert "task: single does not fit the photographs of an earlier run, which have several" in result.stderr
    finally:
        (checkout.path / "params.yaml").write_text(before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split.folds": 5}, "split.folds must be null: nothing else works with task: multi"),
        ({"augment.preset": "auto"}, "augment.preset must be named, not auto"),
        ({"image.resize": "auto"}, "image.resize must be named, not auto"),
        ({"head.probes": ["discriminant"]}, "head.probes must have logistic"),
        ({"evaluate.threshold": "best_f1"}, "evaluate.threshold must be 0.5"),
        ({"download.source": "elpv"}, "task: multi needs a download.source with several labels a photograph"),
        ({"task": "single", "fine_tune.focusing": 4.0}, "fine_tune.focusing needs task: multi: set it to null"),
    ],
)
def test_parameters_that_do_not_fit_several_labels_are_named(changes, message):
    from thaw.core import params
    from thaw.core.errors import ThawError

    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"task": "multi"}
    values["download"]["source"] = "open_images"
    for name, value in changes.items():
        *sections, key = name.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[key] = value
    with pytest.raises(ThawError) as error:
        params.parse(yaml.safe_dump(values), "params.yaml")
    assert message in str(error.value)


# --- What `evaluate` makes of it ---


@pytest.fixture(scope="module")
def evaluated(run) -> tuple[dict, str]:
    """The content of metrics.json after the last stage, and what it printed."""
    result = run[0].run(sys.executable, "src/evaluate.py")
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads((run[0].path / "reports/metrics.json").read_text()), result.stdout


def test_the_metrics_are_those_of_what_the_head_answers_for_the_known_pairs(run, evaluated):
    path, images, metrics = run[0].path, read(run), evaluated[0]
    head = registry.load_packed(path / "models/head/head.zip")
    p = head.probabilities(np.load(path / "data/features/features.npy")[images.rows])
    np.testing.assert_allclose(np.load(path / "data/predictions/head.npy"), p, atol=1e-6)
    for split in ("validation", "test"):
        scores, rows = metrics["head"][split], images.splits == split
        by_class = []
        for number, name in enumerate(head.classes):
            values = images.values[rows, number]
            known = values != UNKNOWN
            by_class.append(average_precision_score(values[known], p[rows, number][known]))
            assert scores["per_class"][name]["average_precision"] == pytest.approx(by_class[-1], abs=1e-9)
            counts = {"present": int((values == PRESENT).sum()), "absent": int((values == ABSENT).sum())}
            assert metrics["pairs"][split][name] == counts
        assert scores["mean_average_precision"] == pytest.approx(np.mean(by_class), abs=1e-9)
        chance = metrics["baselines"]["majority"][split]["mean_average_precision"]
        assert scores["mean_average_precision"] > chance + 0.2


def test_the_decision_calls_what_the_table_of_predictions_has(run, evaluated):
    path, images = run[0].path, read(run)
    decision = json.loads((path / "models/decision.json").read_text())
    assert decision["model_md5"] == hashlib.md5((path / "models/model.keras").read_bytes()).hexdigest()
    classes = decision["classes"]
    p = np.load(path / "data/predictions/fine_tuned.npy").astype(float)
    temperatures, thresholds = (np.array([decision[key][name] for name in classes])
                                for key in ("temperatures", "thresholds"))  # fmt: skip
    p = p.clip(1e-12, 1 - 1e-12)
    calibrated = 1 / (1 + ((1 - p) / p) ** (1 / temperatures))
    far = np.abs(calibrated - thresholds) > 1e-4  # the arrays are float32
    called = table(run, "data/predictions/predictions.csv")["fine_tuned_label"].fill_null("")
    for row, text in enumerate(called):
        names = set(text.split(" + "))
        assert [name in names for name, f in zip(classes, far[row], strict=True) if f] == [
            bool(c) for c, f in zip(calibrated[row] > thresholds, far[row], strict=True) if f
        ]
    assert len(called) == len(images)


def test_the_report_shows_pairs_and_the_stage_says_the_main_metric(run, evaluated):
    path, (metrics, said) = run[0].path, evaluated
    test = metrics["fine_tuned"]["test"]
    assert f"the fine-tuned model a mean average precision of {test['mean_average_precision']:.1%}" in said
    html = (path / "reports/report.html").read_text()
    assert html.count('<figure class="card">') >= 20 and html.count('<div class="pair"><img') >= 20
    assert "not readable" not in html and "Which of 5 classes" in html
    assert "data/raw/labels.csv" in html and "labels.csv" in (path / "reports/model_card.md").read_text()


def test_an_aim_that_no_threshold_reaches_is_one_line_and_the_stage_ends_well(run, evaluated):
    checkout, images, number = run[0], read(run), 0
    p = np.load(checkout.path / "data/predictions/fine_tuned.npy")[:, number]
    known = (images.splits == "validation") & (images.values[:, number] != UNKNOWN)
    highest = images.image_ids[known][p[known].argmax()]  # verified to be absent, every threshold is wrong about it
    name = examples.read_classes(checkout.path / "data/features")[number]
    paths = [checkout.path / file for file in ("params.yaml", "data/raw/labels.csv", "models/decision.json")]
    before = [path.read_bytes() for path in paths]
    labels = re.sub(rf"^({highest},{name}),1,", r"\1,0,", paths[1].read_text(), flags=re.MULTILINE)
    assert labels != paths[1].read_text()
    paths[1].write_text(labels)
    checkout.set(evaluate__multi_aim="precision:1.0", evaluate__shown=0)
    result = checkout.run(sys.executable, "src/evaluate.py")
    assert result.returncode == 0, result.stderr
    assert json.loads(paths[2].read_text())["aim_reached"][name] is False
    (line,) = [line for line in result.stdout.splitlines() if "reached by the fine-tuned model" in line]
    assert line.startswith("evaluate: evaluate.multi_aim precision:1.0 is not reached by the fine-tuned model on valid")
    assert re.search(rf"{name} \(the nearest is taken: [\d.]+, with a precision of [\d.]+%\)", line), line
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content)
