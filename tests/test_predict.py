"""Predictions come in the order of the names, as from the Keras model; an image that cannot be read stops no other."""

import csv
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from dependencies import closure
from PIL import Image
from test_ood import write_features

import predict
from thaw.core import hashes, prefetch
from thaw.core.errors import ThawError, run
from thaw.engines import inference
from thaw.prediction import deployed_model, names, stream
from thaw.prediction import output as output_rows
from thaw.prediction import sheet as contact_sheet

ROOT = Path(__file__).parents[1]
SIZE = 8
TEMPERATURE = 2.0


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The file of a model that tells dark photographs from bright ones, its decision beside it, and converted."""
    from thaw.engines import model_files as models
    from thaw.engines.keras_setup import keras

    image = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(2, activation="softmax")
    network = keras.Model(image, dense(pooled))
    dense.set_weights([np.float32([[2, -2], [1, -1], [1, -1]]) * -2, np.float32([4, -4])])
    path = tmp_path_factory.mktemp("models") / "model.keras"
    image = {"size": SIZE, "resize": "crop", "engine": "openvino"}
    models.save(network, path, {"class_names": ["dark", "bright"], "image": image})
    decide(path, threshold=0.5)
    deployed_model.converted_network(path, path.parent / "cache")
    return path


def decide(model: Path, threshold: float, classes: tuple[str, ...] = ("dark", "bright")) -> None:
    chosen = {"temperature": TEMPERATURE, "threshold": threshold, "aim_reached": True}
    text = json.dumps({"class_names": classes, "models": {"fine_tuned": chosen}})
    model.with_name("decision.json").write_text(text)


def photograph(path: Path, brightness: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (brightness, brightness, brightness)).save(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Dark and bright photographs in folders, and files that are no photographs."""
    for name, brightness in (("b.png", 20), ("a.png", 130), ("sub/c.jpg", 250), ("sub/.hidden.png", 0)):
        photograph(tmp_path / "photographs" / name, brightness)
    (tmp_path / "photographs/notes.txt").write_text("no photograph")
    (tmp_path / "photographs/text.jpg").write_text("no photograph")
    (tmp_path / "photographs/zero.jpg").touch()
    return tmp_path / "photographs"


def command(model: Path, *arguments: object) -> list[str]:
    return ["predict.py", "--model", model, "--cache", model.parent / "cache", *arguments]


@pytest.fixture
def ask(model, monkeypatch, capsys):
    """Run the script with arguments; return its output, its exit status and its messages."""

    def call(*arguments: object) -> tuple[str, int, str]:
        monkeypatch.setattr(sys, "argv", [str(part) for part in command(model, *arguments)])
        status = 0
        try:
            run(predict.main)
        except SystemExit as end:
            status = end.code
            if isinstance(status, str):
                print(status, file=sys.stderr)
                status = 1
        printed = capsys.readouterr()
        return printed.out, status, printed.err

    return call


def rows(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


def script(model: Path, *arguments: object, **options) -> subprocess.CompletedProcess:
    process = [sys.executable, ROOT / "src/predict.py", *command(model, *arguments)[1:]]
    return subprocess.run(process, capture_output=True, timeout=60, **options)


# Which photographs


def shown(named) -> list[str]:
    return [str(item) if isinstance(item, Path) else f"{item.path}: {item.error}" for item in named]


def test_a_folder_is_its_photographs_sorted_then_its_subfolders(folder):
    names = [Path(path).relative_to(folder).as_posix() for path in shown(stream.expand([str(folder)]))]
    assert names == ["a.png", "b.png", "text.jpg", "zero.jpg", "sub/c.jpg"]


def test_a_file_is_taken_whatever_its_ending_and_names_keep_their_order(folder):
    names = [str(folder / "notes.txt"), str(folder / "b.png"), str(folder / "a.png"), str(folder / "b.png")]
    assert shown(stream.expand(names)) == names


def test_a_pattern_is_what_it_matches_sorted(folder):
    assert shown(stream.expand([f"{folder}/*.png"])) == [str(folder / "a.png"), str(folder / "b.png")]
    assert shown(stream.expand([f"{folder}/**/c.*"])) == [str(folder / "sub/c.jpg")]
    assert shown(stream.expand([f"{folder}/sub*", f"{folder}/s*b/"])) == [str(folder / "sub/c.jpg")] * 2
    assert shown(stream.expand([f"{folder}/*.gif"])) == [f"{folder}/*.gif: no file matches"]


def test_a_pattern_of_folders_within_folders_names_each_photograph_once(folder):
    photograph(folder / "sub/deep/d.png", 1)
    below = ["a.png", "b.png", "notes.txt", "sub/c.jpg", "sub/deep/d.png", "text.jpg", "zero.jpg"]
    in_folder = shown(stream.expand([str(folder)]))
    assert shown(stream.expand([f"{folder}/**/*"])) == [str(folder / name) for name in below]
    assert shown(stream.expand([f"{folder}/**"])) == [*in_folder, str(folder / "notes.txt")]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    names = [str(photograph(tmp_path / "a[1].png", 1))]
    assert shown(stream.expand(names)) == names


def test_an_empty_folder_is_an_error_of_its_own(tmp_path):
    assert shown(stream.expand([str(tmp_path)])) == [f"{tmp_path}: no photograph in this folder"]


def test_a_folder_that_may_not_be_read_is_an_error_and_the_rest_is_listed(folder, monkeypatch):
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert shown(stream.expand([str(folder / "sub"), str(folder)]))[0] == f"{folder}/sub: cannot be read: " \
        "Permission denied"  # fmt: skip
    listed = shown(stream.expand([str(folder)]))
    assert str(folder / "a.png") in listed and f"{folder}/sub: cannot be read: Permission denied" in listed


# How they are loaded


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.touch(), "an empty file"),
        (lambda path: path.write_text("text"), "not an image that can be read"),
        (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file or directory"),
        (lambda path: os.mkfifo(path), "not a file"),
        (lambda path: None, "cannot be read: No such file or directory"),
    ],
    ids=["empty", "text", "link to nothing", "pipe", "missing"],
)
def test_a_file_that_is_no_photograph_has_an_error(tmp_path, make, error):
    path = tmp_path / "photograph.jpg"
    make(path)
    (image,) = stream.load_images([path], SIZE, "crop")
    assert image == stream.LoadedImage(str(path), None, error)


def test_a_decompression_bomb_and_a_name_too_long_are_errors(tmp_path):
    path = tmp_path / "bomb.bmp"
    Image.new("L", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = np.array([60_000, 60_000], "<i4").tobytes()  # its header's width and height
    path.write_bytes(data)
    bomb, long = stream.load_images([path, tmp_path / ("x" * 300)], SIZE, "crop")
    assert bomb.error == "over 200 megapixels" and long.error == "cannot be read: File name too long"


def test_a_photograph_of_an_iphone_names_the_package_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "READS_HEIF", False)
    (tmp_path / "photograph.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (image,) = stream.load_images(stream.expand([str(tmp_path)]), SIZE, "crop")
    assert "pillow-heif" in image.error


def test_an_unexpected_error_of_a_decoder_does_not_stop_the_others(folder, monkeypatch):
    def decode(path, least, bits):
        if path.name == "a.png":
            raise IndexError("deep inside")
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr("thaw.images.decoding.decode", decode)
    first, second = stream.load_images([folder / "a.png", folder / "b.png"], SIZE, "crop")
    assert first.error == "damaged (IndexError: deep inside)" and second.view.shape == (SIZE, SIZE, 3)


def test_a_large_photograph_gives_the_same_view_as_a_small_one(tmp_path, monkeypatch):
    path = tmp_path / "photograph.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    (small,) = stream.load_images([path], SIZE, "crop")
    monkeypatch.setattr(stream, "MAX_PARALLEL_PIXELS", 100)
    (large,) = stream.load_images([path], SIZE, "crop")
    assert large.error is None and large.view.tobytes() == small.view.tobytes()


def test_a_photograph_is_rotated_as_its_exif_says(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "turned.png", exif=exif)
    (image,) = stream.load_images([tmp_path / "turned.png"], SIZE, "crop")
    np.testing.assert_array_equal(image.view, pixels)


def test_few_photographs_are_read_ahead(tmp_path):
    path, taken = photograph(tmp_path / "a.png", 1), []

    def named():
        for number in range(1000):
            taken.append(number)
            yield path

    images = stream.load_images(named(), SIZE, "crop")
    next(images)
    images.close()
    assert len(taken) < 100


loaded = stream.LoadedImage


def first_pixels(batches):
    """An engine that returns the value of the first pixel of each view."""
    for batch in batches:
        yield batch[:, 0, 0, :1].astype(np.float32)


@pytest.mark.parametrize("kinds", ["", "1", "x", "xx1", "1x2x3", "12x", "xx", "123xxxx45xx67"])
def test_predictions_and_errors_come_in_the_order_of_the_photographs(kinds):
    images = [
        loaded(str(i), error="no") if kind == "x" else loaded(str(i), np.full((2, 2, 3), int(kind)))
        for i, kind in enumerate(kinds)
    ]
    predictions = list(stream.predict(images, first_pixels))
    assert [prediction.image for prediction in predictions] == images
    values = [prediction.probabilities for prediction in predictions]
    assert "".join("x" if value is None else str(int(value[0])) for value in values) == kinds


def test_each_distance_belongs_to_its_prediction():
    def distances(batches):
        for batch in inference.rebatch(batches, 4):
            yield -batch[:, 0, 0, 0].astype(np.float32)

    images = [loaded("", error="no") if i % 3 == 1 else loaded("", np.full((2, 2, 3), i)) for i in range(50)]
    predictions = list(stream.predict(iter(images), first_pixels, distances))
    assert [prediction.image for prediction in predictions] == images
    assert [prediction.distance for prediction in predictions] == [None if i % 3 == 1 else -i for i in range(50)]
    values = [prediction.probabilities for prediction in predictions if prediction.distance is not None]
    assert values == [[i] for i in range(50) if i % 3 != 1]


# What is predicted


def test_probabilities_are_those_of_the_keras_model_calibrated(ask, folder, model):
    from thaw.engines import model_files as models

    output, status, _ = ask(folder / "a.png", folder / "sub", "--json")
    network, _ = models.load(model)
    views = np.stack([np.full((SIZE, SIZE, 3), 130), np.full((SIZE, SIZE, 3), 250)])
    tempered = network(views.astype(np.float32)).numpy().astype(np.float64) ** (1 / TEMPERATURE)
    expected = tempered / tempered.sum(axis=1, keepdims=True)
    predicted = rows(output)
    assert status == 0 and [row["path"] for row in predicted] == [f"{folder}/a.png", f"{folder}/sub/c.jpg"]
    assert [row["label"] for row in predicted] == ["bright", "bright"]
    for row, probabilities in zip(predicted, expected, strict=True):
        np.testing.assert_allclose(list(row["probabilities"].values()), probabilities, atol=1e-5)
        assert list(row["probabilities"]) == ["dark", "bright"]
        assert row["probability"] == row["probabilities"][row["label"]]


def test_the_threshold_decides_between_two_classes(ask, folder, model):
    (before,) = rows(ask(folder / "a.png", "--json")[0])
    assert before["label"] == "bright"
    decide(model, threshold=before["probability"] + 0.01)
    try:
        (after,) = rows(ask(folder / "a.png", "--json")[0])
    finally:
        decide(model, threshold=0.5)
    assert after["label"] == "dark" and after["probability"] == before["probabilities"]["dark"] < 0.5


def test_without_a_threshold_the_most_probable_class_is_predicted():
    decision = deployed_model.Decision(threshold=None)
    assert decision.predict(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])).tolist() == [1, 0]


def test_without_a_decision_probabilities_are_the_models_own_and_a_message_says_so(ask, folder, model):
    (calibrated,) = rows(ask(folder / "a.png", "--json")[0])
    model.with_name("decision.json").unlink()
    try:
        output, _, complaint = ask(folder / "a.png", "--json")
    finally:
        decide(model, threshold=0.5)
    odds = calibrated["probabilities"]["bright"] / calibrated["probabilities"]["dark"]
    assert rows(output)[0]["probability"] == pytest.approx(odds**2 / (1 + odds**2), abs=1e-4)
    assert "not calibrated" in complaint


def test_a_decision_for_other_classes_is_refused(tmp_path):
    decide(tmp_path / "model.keras", 0.5, ("cat", "dog"))
    with pytest.raises(ThawError, match="another model, of cat, dog"):
        deployed_model.read_decision(tmp_path / "model.keras", ("dark", "bright"))


def test_a_decision_for_the_model_of_another_run_is_ignored(tmp_path):
    model, path = tmp_path / "model.keras", tmp_path / "decision.json"
    model.write_bytes(b"this run's")
    decide(model, 0.25)
    content = json.loads(path.read_text())
    for md5, threshold in (
        (hashlib.md5(b"this run's").hexdigest(), 0.25),
        (hashlib.md5(b"the last").hexdigest(), None),
    ):
        path.write_text(json.dumps(content | {"model_md5": md5}))
        decision = deployed_model.read_decision(model, ("dark", "bright"))
        assert (decision.threshold if decision else None) == threshold


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"class_names": ["dark", "bright"], "models": {"fine_tuned": {}}}'])
def test_a_file_that_is_no_decision_is_refused(tmp_path, text):
    (tmp_path / "decision.json").write_text(text)
    with pytest.raises(ThawError, match="no decision of Thaw's"):
        deployed_model.read_decision(tmp_path / "model.keras", ("dark", "bright"))


@pytest.mark.parametrize("flips", ["sideways", ["both"], 1, {}, True])
def test_flips_that_there_are_not_are_refused(tmp_path, flips):
    decide(tmp_path / "model.keras", 0.5)
    decision = tmp_path / "decision.json"
    decision.write_text(json.dumps(json.loads(decision.read_text()) | {"test_time_flips": flips}))
    with pytest.raises(ThawError, match=re.escape(f"asks for the test-time flips {flips!r}")):
        deployed_model.read_decision(tmp_path / "model.keras", ("dark", "bright"))


# How far from the training photographs


def tints(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(150, 15, (count, 3)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run whose photographs are greyish, 60 for training, each with a red copy, and 100 for validation."""
    from thaw.engines import openvino_setup
    from thaw.engines.keras_setup import keras
    from thaw.engines.keras_to_openvino import convert

    folder = tmp_path_factory.mktemp("run")
    image = keras.Input((None, None, 3))
    backbone = keras.Model(image, {"features": keras.layers.GlobalAveragePooling2D(name="features")(image)})
    (folder / "models/backbone").mkdir(parents=True)
    openvino_setup.write(convert(backbone), folder / "models/backbone/backbone.xml")
    (folder / "data").mkdir()
    array = np.stack([tints(161, 0), np.tile(np.uint8([250, 0, 0]), (161, 1))], axis=1).reshape(322, 3)
    write_features(folder / "data", array.astype(np.float16), ["train"] * 60 + ["validation"] * 100 + ["test"])
    lock(folder, SIZE, "crop")
    return folder


def lock(folder: Path, size: int | None, resize: str) -> None:
    stage = {"params": {"params.yaml": {"image.engine": "openvino", "image.resize": resize, "image.size": size}}}
    (folder / "dvc.lock").write_text(json.dumps({"stages": {"extract_features": stage}}))  # JSON is YAML


@pytest.fixture
def here(trained, tmp_path, monkeypatch) -> Path:
    """A copy of that run as the working directory."""
    shutil.copytree(trained, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def coloured(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (20, 16), colour).save(path)
    return path


@pytest.fixture
def strange(tmp_path) -> Path:
    """A grey photograph, a file that cannot be read, and two photographs of colours that are not in the run."""
    coloured(tmp_path / "strange/a.png", (140, 150, 145))
    (tmp_path / "strange/b.png").touch()
    coloured(tmp_path / "strange/c.png", (250, 0, 0))
    coloured(tmp_path / "strange/d.png", (30, 40, 255))
    return tmp_path / "strange"


def test_a_photograph_unlike_the_training_ones_is_unsure(ask, here, strange):
    output, status, complaint = ask(strange, "--json", "--far", 0.99)
    near, unread, *far = rows(output)
    assert status == 0 and "unsure beyond a distance of 0.0" in complaint
    assert near["distance"] < 0.01 and near["unsure"] is False and "error" in unread and "distance" not in unread
    assert all(row["distance"] > 0.1 and row["unsure"] is True for row in far)  # red copies are no training photographs


def test_of_photographs_like_the_training_ones_about_the_promised_share_is_unsure(ask, here, tmp_path):
    for number, tint in enumerate(tints(300, 1)):
        coloured(tmp_path / f"new/{number}.png", tuple(map(int, tint)))
    marked = {share: [row["unsure"] for row in rows(ask(tmp_path / "new", "--json", "--far", share)[0])]
              for share in (0.8, 0.99)}  # fmt: skip
    assert len(marked[0.8]) == 300 and 0.1 < np.mean(marked[0.8]) < 0.3 and np.mean(marked[0.99]) < 0.04


def test_the_distance_is_a_column_and_the_mark_stands_on_the_line_and_the_sheet(ask, here, strange, monkeypatch):
    output = ask(strange, "--csv", "--far", 0.99)[0]
    predicted = table(output)
    columns = ["path", "label", "probability", "distance", "unsure", "error", "probability_dark", "probability_bright"]
    assert list(predicted[0]) == columns and [row["unsure"] for row in predicted] == ["False", "", "True", "True"]
    lines = ask(strange, "--far", 0.99)[0].splitlines()
    assert [" unsure " in line for line in lines] == [False, False, True, True]
    titles = []
    monkeypatch.setattr(predict.Sheet, "add", lambda self, view, title, name: titles.append(title))
    monkeypatch.setattr(predict.Sheet, "write", lambda self, path: None)
    ask(strange, "--far", 0.99, "--sheet", "sheet.png")
    assert [title.endswith(" ?") for title in titles] == [False, False, True, True]


def test_a_prediction_is_unsure_for_either_reason(ask, here, strange):
    reasons = [["--far", 0.99], ["--unsure", 0.9], ["--far", 0.99, "--unsure", 0.9]]
    far, improbable, either = (
        [row["unsure"] for row in rows(ask(strange, "--json", *reason)[0]) if "label" in row] for reason in reasons
    )
    assert far != improbable and either == [a or b for a, b in zip(far, improbable, strict=True)]


@pytest.mark.parametrize("artifact", ["data/features", "data/split.csv", "models/backbone"])
def test_without_the_run_of_the_model_one_line_says_what_to_pull(ask, here, strange, artifact):
    shutil.move(artifact, "elsewhere")
    output, status, complaint = ask(strange, "--far", 0.99)
    assert status == 1 and not output and complaint.count("\n") == 1
    assert "dvc pull extract_features split backbone" in complaint
    assert ask(strange)[1] == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda: lock(Path(), 2 * SIZE, "crop"), "of 16 pixels (crop), the model needs 8 (crop)"),
        (lambda: lock(Path(), SIZE, "pad"), "of 8 pixels (pad), the model needs 8 (crop)"),
        (lambda: Path("dvc.lock").unlink(), "dvc.lock does not say"),
        (lambda: Path("dvc.lock").write_text("stages: {}"), "dvc.lock does not say"),
        (lambda: Path("data/features/classes.json").write_text('["cat", "dog"]'), "of another model, of cat, dog"),
        (lambda: np.save("data/features/features.npy", np.ones((322, 4))), "are not of one run"),
    ],
    ids=["size", "resize", "no record", "an empty record", "classes", "backbone"],
)
def test_features_of_other_photographs_than_the_models_are_refused(ask, here, strange, spoil, words):
    spoil()
    output, status, complaint = ask(strange, "--far", 0.99)
    assert status == 1 and not output and words in complaint and complaint.count("\n") == 1


def test_a_model_of_another_run_is_refused(ask, here, strange, model):
    def record(md5: str) -> None:
        content = json.loads(Path("dvc.lock").read_text())
        content["stages"]["fine_tune"] = {"outs": [{"path": "models/model.keras", "md5": md5}]}
        Path("dvc.lock").write_text(json.dumps(content))

    record(hashes.md5(model))
    assert ask(strange, "--far", 0.99)[1] == 0
    record("0" * 32)
    output, status, complaint = ask(strange, "--far", 0.99)
    assert status == 1 and not output and "is not the model of this run, by dvc.lock" in complaint
    assert ask(strange)[1] == 0


def test_a_split_or_a_network_that_the_model_was_not_trained_with_is_refused(ask, here, strange):
    """As where `dvc repro` ended between the split and the model: the record names two, or the file is another."""

    def record(split: str, head: str) -> None:
        content = json.loads(Path("dvc.lock").read_text())
        content["stages"]["split"] = {"outs": [{"path": "data/split.csv", "md5": split}]}
        content["stages"]["train_head"] = {"deps": [{"path": "data/split.csv", "md5": head}]}
        content["stages"]["evaluate"] = {"deps": [{"path": "data/split.csv", "md5": "of a run before"}]}
        Path("dvc.lock").write_text(json.dumps(content))

    true = hashes.md5(Path("data/split.csv"))
    record(true, true)
    assert ask(strange, "--far", 0.99)[1] == 0
    for split, head in ((true, "other"), ("other", "other")):
        record(split, head)
        output, status, complaint = ask(strange, "--far", 0.99)
        assert status == 1 and not output
        assert "the model was trained with another data/split.csv: run `dvc repro`" in complaint
    assert ask(strange)[1] == 0


def test_without_an_image_size_the_backbones_size_counts(ask, here, strange):
    lock(here, None, "crop")
    Path("models/backbone/backbone.json").write_text(json.dumps({"size": SIZE}))
    assert ask(strange, "--far", 0.99)[1] == 0
    Path("models/backbone/backbone.json").write_text(json.dumps({"size": SIZE + 1}))
    assert "of 9 pixels" in ask(strange, "--far", 0.99)[2]


def test_where_the_resizing_was_chosen_the_features_say_which(ask, here, strange):
    lock(here, SIZE, "auto")
    Path("data/features/image.json").write_text('{"resize": "crop"}')
    assert ask(strange, "--far", 0.99)[1] == 0
    Path("data/features/image.json").write_text('{"resize": "squash"}')
    assert "of 8 pixels (squash), the model needs 8 (crop)" in ask(strange, "--far", 0.99)[2]


def test_a_share_for_which_validation_is_too_small_is_refused(ask, here, strange):
    _, status, complaint = ask(strange, "--far", 0.999)
    assert status == 1 and "100 held-out photographs are too few" in complaint and "at most 0.99" in complaint


# What is printed


def test_a_file_that_cannot_be_read_gives_a_line_with_its_error(ask, folder):
    output, status, complaint = ask(folder, folder / "nothere.jpg", "--json")
    errors = {Path(row["path"]).name: row["error"] for row in rows(output) if "error" in row}
    assert status == 0 and len(rows(output)) == 6 and set(errors) == {"text.jpg", "zero.jpg", "nothere.jpg"}
    assert all(set(row) == {"path", "error"} for row in rows(output) if "error" in row)
    assert complaint == (
        "predict: 3 predicted, 3 could not be read\n"
        "predict: 2 left out of folders: 1 hidden, or a leftover of a program (.hidden.png); "
        "1 not an image by its content (notes.txt)\n"
    )


def test_without_any_prediction_the_status_is_1(ask, tmp_path):
    assert ask(tmp_path)[1] == 1


def test_a_line_for_a_person_has_label_probability_and_path(ask, folder):
    output, _, _ = ask(folder / "b.png", folder / "zero.jpg", folder / "sub", "--top", 2)
    dark, error, bright = output.splitlines()
    label, probability, path, *top = dark.split()
    assert (label, path, top[0]) == ("dark", str(folder / "b.png"), "dark") and probability == top[1].rstrip(",")
    assert error.endswith(f"{folder}/zero.jpg: an empty file") and bright.startswith("bright")


def test_a_name_that_turns_a_line_around_is_escaped_for_a_person_alone(ask, folder):
    name = photograph(folder / "a\u202egnp.b\x1b.png", 20).name
    (folder / "!\u2066.txt").write_text("no photograph")
    output, _, complaint = ask(folder)
    assert r"/a\u202egnp.b\x1b.png" in output and r"!\u2066.txt" in complaint
    assert not {"\u202e", "\x1b", "\u2066"} & set(output + complaint)
    assert name in [Path(row["path"]).name for row in rows(ask(folder, "--json")[0])]
    assert name in ask(folder, "--csv")[0]


def test_top_lists_the_most_probable_class_first(ask, folder):
    both = rows(ask(folder / "a.png", "--json", "--top", 2)[0])[0]["probabilities"]
    first = rows(ask(folder / "a.png", "--json", "--top", 1)[0])[0]["probabilities"]
    assert list(both) == ["bright", "dark"] and list(first) == ["bright"]


def test_a_prediction_of_a_low_probability_is_marked_unsure(ask, folder):
    unsure, sure = rows(ask(folder / "a.png", folder / "sub", "--json", "--unsure", 0.8)[0])
    assert (unsure["unsure"], sure["unsure"]) == (True, False)
    assert "unsure" in ask(folder / "a.png", "--unsure", 0.8)[0]
    assert "unsure" not in ask(folder / "sub", "--unsure", 0.8)[0]


def table(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_row_for_each_and_a_column_for_each_class(ask, folder, tmp_path):
    file = tmp_path / "predictions.csv"
    output, _, _ = ask(folder, "--csv", file)
    assert not output and file.read_text() == ask(folder, "--csv")[0]
    predicted = table(file.read_text())
    assert list(predicted[0]) == ["path", "label", "probability", "error", "probability_dark", "probability_bright"]
    assert predicted[0]["probability"] == predicted[0]["probability_bright"]
    assert predicted[2]["error"] == "not an image that can be read" and not predicted[2]["probability_dark"]


def test_csv_survives_a_carriage_return_in_a_name(ask, folder):
    shutil.copyfile(folder / "a.png", folder / "a\rb.png")
    predicted = table(ask(folder / "a\rb.png", folder / "b.png", "--csv")[0])
    assert [Path(row["path"]).name for row in predicted] == ["a\rb.png", "b.png"]
    assert all(row["label"] for row in predicted)


def test_csv_with_top_has_the_most_probable_class_first(ask, folder):
    predicted = table(ask(folder, "--csv", "--top", 5)[0])
    assert list(predicted[0])[4:] == ["label_1", "probability_1", "label_2", "probability_2"]
    assert [row["label_1"] for row in predicted if row["label"]] == ["bright", "dark", "bright"]


@pytest.fixture
def sets(model):
    """Limits beside the model, at three levels."""
    decide(model, threshold=0.5)
    path = model.with_name("decision.json")
    content = json.loads(path.read_text())
    content["models"]["fine_tuned"]["sets"] = {"0.9": [0.3, 0.5], "0.95": [0.02, 0.02], "0.99": [0, 0]}
    path.write_text(json.dumps(content))
    yield content
    decide(model, threshold=0.5)


def test_a_set_has_the_classes_that_reach_their_limits_and_the_label(ask, folder, sets):
    output, status, complaint = ask(folder / "a.png", folder / "b.png", folder / "zero.jpg", "--json", "--sets", 0.9)
    a, b, unread = rows(output)
    assert status == 0 and "predict: there" not in complaint and "set" not in unread
    assert 0.3 <= a["probabilities"]["dark"] < 0.5 and a["set"] == ["bright", "dark"]
    assert b["set"] == ["dark"]
    assert "set" not in rows(ask(folder / "a.png", "--json")[0])[0]


def test_a_set_stands_on_the_line_and_in_a_column_that_any_name_survives(ask, folder, sets, tmp_path):
    line, _, _ = ask(folder / "a.png", "--sets", 0.9)
    assert line.endswith(f"{folder}/a.png  {{bright, dark}}\n")
    file = tmp_path / "sets.csv"
    for _ in range(2):  # the second time it replaces its own file
        assert ask(folder, "--csv", file, "--sets", 0.9)[1] == 0
    a, b, unread, *_ = table(file.read_text())
    assert (json.loads(a["set"]), json.loads(b["set"]), unread["set"]) == (["bright", "dark"], ["dark"], "")
    decision = deployed_model.Decision(sets={0.9: (0.0, 0.0)})
    named = output_rows.Table(('a, "b"', "c|d"), decision, set_level=0.9)
    text = io.StringIO()
    image = stream.LoadedImage("x.png")
    output_rows._csv_writer(text, named)(named.row(stream.Prediction(image, np.array([0.4, 0.6]))))
    assert json.loads(table(text.getvalue())[0]["set"]) == ["c|d", 'a, "b"']


def test_many_classes_of_a_set_are_counted():
    classes = tuple(f"c{number}" for number in range(12))
    probabilities = np.linspace(2, 1, 12) / 18
    for limits, text in (((0.0,) * 12, "{all 12 classes}"), ((0.07,) * 12, "{c0, c1, c2, c3, c4, c5, c6, c7, 1 more}")):
        named = output_rows.Table(classes, deployed_model.Decision(sets={0.9: limits}), set_level=0.9)
        row = named.row(stream.Prediction(stream.LoadedImage("x.png"), probabilities))
        assert output_rows._line(row, named).endswith(f"x.png  {text}")


def test_a_level_between_two_takes_the_higher_one_and_too_few_photographs_are_said(ask, folder, sets):
    output, _, complaint = ask(folder / "a.png", "--json", "--sets", 0.91)
    assert rows(output)[0]["set"] == ["bright", "dark"] and "there are no sets of 0.91: these are of 0.95" in complaint
    output, _, complaint = ask(folder / "b.png", "--json", "--sets", 0.99)
    assert rows(output)[0]["set"] == ["dark", "bright"] and "too few photographs were held out for 0.99" in complaint


@pytest.mark.parametrize("level", ["0.5", "0.999"])
def test_a_level_that_decision_json_does_not_have_is_refused(ask, folder, sets, level):
    output, status, complaint = ask(folder / "a.png", "--sets", level)
    assert not output and (status, complaint) == (1, f"thaw: --sets should be from 0.9 to 0.99, not {level}\n")


def test_sets_of_a_model_without_its_decision_are_one_line(ask, folder, model, monkeypatch):
    monkeypatch.setattr(deployed_model, "read_decision", lambda *_: None)
    output, status, complaint = ask(folder / "a.png", "--sets", 0.9)
    assert not output and (status, complaint) == (1, "thaw: --sets needs the decision.json of this model beside it\n")


def test_without_sets_one_line_says_who_writes_them(ask, folder):
    output, status, complaint = ask(folder / "a.png", "--sets", 0.9)
    assert not output and status == 1 and complaint.startswith("thaw: --sets: decision.json has no sets;")
    assert complaint.count("\n") == 1


def test_sets_for_another_number_of_classes_are_refused(tmp_path):
    chosen = {"temperature": 1, "threshold": None, "sets": {"0.9": [0.5, 0.5, 0.5]}}
    content = {"class_names": ["dark", "bright"], "models": {"fine_tuned": chosen}}
    for sets in (chosen["sets"], ["0.9"], {"high": [0.5, 0.5]}):
        content["models"]["fine_tuned"]["sets"] = sets
        (tmp_path / "decision.json").write_text(json.dumps(content))
        with pytest.raises(ThawError, match="no decision of Thaw's"):
            deployed_model.read_decision(tmp_path / "model.keras", ("dark", "bright"))


@pytest.mark.parametrize("name", ["sheet.png", "sheet.jpg"])
def test_the_sheet_shows_every_photograph(ask, folder, tmp_path, name):
    ask(folder, "--sheet", tmp_path / name)
    with Image.open(tmp_path / name) as sheet:
        pixels = np.asarray(sheet.convert("L")).astype(int)
    middles = pixels[78, [78 + 150 * column for column in range(5)]]
    assert pixels.shape == (190, 756)
    np.testing.assert_allclose(middles, [130, 20, 211, 211, 250], atol=4)


@pytest.mark.parametrize("ending", contact_sheet.ENDINGS)
def test_the_longest_sheet_fits_into_every_format(tmp_path, ending):
    sheet = contact_sheet.Sheet()
    for number in range(contact_sheet.MAX_IMAGES + 1):
        sheet.add(None, "bright", str(number))
    sheet.write(tmp_path / f"sheet{ending}")
    with Image.open(tmp_path / f"sheet{ending}") as written:
        assert written.height == contact_sheet.MAX_IMAGES // 10 * 184 + 6
    assert sheet.left_out == 1


def test_names_in_other_scripts_are_told_apart_on_the_sheet(tmp_path):
    pictures = []
    for name in ("太阳能电池", "太阳能板电", "خلية", "????"):
        sheet = contact_sheet.Sheet()
        sheet.add(None, name, "1.png")
        sheet.write(tmp_path / "sheet.png")
        pictures.append((tmp_path / "sheet.png").read_bytes())
    assert len(set(pictures)) == 4


def test_the_same_photographs_give_the_same_sheet(ask, folder, tmp_path):
    ask(folder, "--sheet", tmp_path / "first.png")
    ask(folder, "--sheet", tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_no_photograph_is_overwritten(ask, folder):
    before = (folder / "a.png").read_bytes()
    _, status, complaint = ask(folder, "--sheet", folder / "a.png")
    assert status == 1 and "would be overwritten" in complaint
    assert ask(folder, "--csv", folder / "a.png")[1] == 2
    assert (folder / "a.png").read_bytes() == before


def test_only_files_of_an_earlier_prediction_are_replaced(ask, folder, tmp_path):
    for option, name, content in (
        ("--csv", "labels.csv", b"path,label\n"),
        ("--csv", "several.csv", b"path,labels\n"),
        ("--csv", "earlier.csv", b"path,label,probability\n"),
        ("--csv", "checked.csv", b"path,label,probability,error,probability_cat,truth\n"),
        ("--sheet", "b.png", b"a photograph"),
    ):
        (file := tmp_path / name).write_bytes(content)
        _, status, complaint = ask(folder, option, file)
        assert status == 1 and "not from an earlier prediction" in complaint
        assert file.read_bytes() == content
        file.unlink()
        assert ask(folder, option, file)[1] == ask(folder, option, file)[1] == 0
    (tmp_path / "folder.csv").mkdir()
    assert "not from an earlier prediction" in ask(folder, "--csv", tmp_path / "folder.csv")[2]
    os.mkfifo(tmp_path / "pipe.png")
    assert "not from an earlier prediction" in ask(folder, "--sheet", tmp_path / "pipe.png")[2]


def test_what_a_prediction_writes_into_the_folder_is_no_photograph_of_the_next_one(ask, folder):
    options = ["--csv", folder / "out.csv", "--sheet", folder / "sheet.png"]
    first = ask(folder, *options)
    table = (folder / "out.csv").read_bytes()
    assert first[1] == 0 and ".partial" not in first[2] and "1 hidden" in first[2]
    assert ask(folder, *options)[1] == 0 and (folder / "out.csv").read_bytes() == table
    output, status, errors = ask(folder, "--csv")  # the sheet is not named again
    assert (output, status) == (table.decode(), 0)
    assert "1 a contact sheet of predictions (sheet.png)" in errors


@pytest.mark.parametrize("option", ["--csv", "--sheet"])
def test_a_file_that_cannot_be_is_refused_before_the_work(ask, folder, option):
    for name in ("notes.txt/x", "x" * 300):
        output, status, complaint = ask(folder, option, folder / f"{name}.{'csv' if option == '--csv' else 'png'}")
        assert status == 1 and not output and complaint.startswith("thaw: cannot use") and complaint.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ["--top", "0"],
        ["--unsure", "2"],
        ["--far", "1"],
        ["--far", "0"],
        ["--sheet", "a.txt"],
        ["--csv", "--json"],
        ["--bits", "7"],
        ["--sets", "95"],
        ["--sets", "1"],
        ["--sets", "nan"],
        ["-0"],
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_refused_before_any_work(ask, folder, wrong):
    output, status, complaint = ask(folder, *wrong)
    assert status == 2 and not output and wrong[0] in complaint


# The model


def test_a_file_that_is_no_model_of_thaws_is_refused_in_one_line(tmp_path):
    import zipfile

    (tmp_path / "text.keras").write_text("text")
    for name, metadata in (("bare", {}), ("backbone", {"class_names": ["a"]}), ("odd", [])):
        with zipfile.ZipFile(tmp_path / f"{name}.keras", "w") as file:
            file.writestr("metadata.json", json.dumps(metadata))
    refusals = {}
    for name in ("text", "bare", "backbone", "odd", "missing"):
        with pytest.raises(ThawError) as caught:
            deployed_model.read_description(tmp_path / f"{name}.keras")
        refusals[name] = str(caught.value).removeprefix(f"{tmp_path}/{name}.keras")
    assert refusals == {
        "text": ": not a model of Thaw's (File is not a zip file)",
        "bare": ": not a classifier of Thaw's (it has no class_names)",
        "backbone": ": not a classifier of Thaw's (it has no image)",
        "odd": ": not a model of Thaw's (list indices must be integers or slices, not str)",
        "missing": " is missing: run `dvc repro`, or `dvc pull` where a teammate pushed it",
    }


def test_a_model_is_converted_once_and_again_when_it_changes(model, tmp_path, monkeypatch):
    converted = []
    monkeypatch.setattr(deployed_model, "_convert", lambda path, folder: converted.append(folder.name))
    kept = deployed_model.converted_network(model, model.parent / "cache")
    assert kept.exists() and not converted
    changed = tmp_path / "model.keras"
    changed.write_bytes(model.read_bytes() + b"\0")
    deployed_model.converted_network(changed, model.parent / "cache")
    assert len(converted) == 1 and converted[0] != kept.parent.name


@pytest.mark.parametrize("module", ["engines/keras_to_openvino.py", "engines/model_files.py", "core/files.py"])
def test_a_model_is_converted_again_when_code_that_converts_changes(model, tmp_path, monkeypatch, module):
    before = deployed_model.converted_network(model, model.parent / "cache")
    converted = []
    monkeypatch.setattr(deployed_model, "_convert", lambda path, folder: converted.append(folder))
    shutil.copytree(deployed_model.SOURCE, tmp_path / "thaw", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(deployed_model, "SOURCE", tmp_path / "thaw")
    assert deployed_model.converted_network(model, model.parent / "cache") == before and not converted
    with (tmp_path / "thaw" / module).open("a") as file:
        file.write("# edited")
    assert deployed_model.converted_network(model, model.parent / "cache").parent == converted[0] != before.parent


@pytest.mark.parametrize("library", ["keras", "openvino", "numpy"])
def test_a_model_is_converted_again_with_another_version_of_a_library(model, monkeypatch, library):
    before = deployed_model.converted_network(model, model.parent / "cache")
    converted, version = [], importlib.metadata.version
    monkeypatch.setattr(deployed_model, "_convert", lambda path, folder: converted.append(folder))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0" if name == library else version(name))
    assert deployed_model.converted_network(model, model.parent / "cache").parent == converted[0] != before.parent


def test_the_cache_key_covers_all_modules_that_the_conversion_imports():
    imported = {path.relative_to(deployed_model.SOURCE) for path in closure(Path(deployed_model.__file__))}
    assert {Path("engines/keras_to_openvino.py"), Path("engines/model_files.py"), Path("core/files.py")} <= imported
    outside = {path for path in imported if not any(map(path.is_relative_to, deployed_model.CONVERTERS))}
    assert outside == {Path("training/temperature.py")}  # calibrates predictions; the conversion does not use it


def test_if_two_processes_need_a_model_only_the_first_converts_it(model, tmp_path, monkeypatch):
    begun, converted = threading.Event(), []

    def convert(path: Path, folder: Path) -> None:
        begun.set()
        time.sleep(0.2)
        folder.mkdir()
        (folder / "model.xml").touch()
        (folder / "model.bin").touch()
        converted.append(folder)

    monkeypatch.setattr(deployed_model, "_convert", convert)
    first = prefetch.run_in_background(lambda: deployed_model.converted_network(model, tmp_path / "cache"))
    assert begun.wait(10)
    second = deployed_model.converted_network(model, tmp_path / "cache")
    assert first.result() == second == converted[0] / "model.xml"
    assert len(converted) == 1


def test_only_the_converted_models_used_last_are_kept_and_other_files_stay(model, tmp_path, monkeypatch):
    def convert(path: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.xml").touch()
        (folder / "model.bin").touch()

    monkeypatch.setattr(deployed_model, "_convert", convert)
    monkeypatch.setattr(deployed_model, "MAX_KEPT", 3)
    cache = tmp_path / "cache"
    (cache / "photographs").mkdir(parents=True)
    models, kept = [], []
    for number in range(4):
        models.append(tmp_path / f"{number}.keras")
        models[-1].write_text(str(number))
        kept.append(deployed_model.converted_network(models[-1], cache).parent)
        os.utime(kept[-1], (number, number))
        if number == 2:
            deployed_model.converted_network(models[0], cache)
    assert [folder.exists() for folder in kept] == [True, False, True, True]
    assert len(list(cache.iterdir())) == 4 and (cache / "photographs").exists()


@pytest.mark.parametrize("event", ["used", "removed"])
def test_another_process_may_use_or_remove_a_converted_model_meanwhile(tmp_path, monkeypatch, event):
    folders = [tmp_path / (f"{number}" * 64) for number in range(3)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        os.utime(folder, (number, number))

    def order(used, key):
        os.utime(folders[0]) if event == "used" else folders[0].rmdir()
        return sorted(used, key=key)

    monkeypatch.setattr(deployed_model, "sorted", order, raising=False)
    monkeypatch.setattr(deployed_model, "MAX_KEPT", 1)
    deployed_model._remove_unused(tmp_path)
    assert [folder.exists() for folder in folders] == [event == "used", False, True]


# The process


def test_a_converted_model_predicts_without_importing_slow_packages(model, folder):
    slow = {"tensorflow", "keras", "polars", "scipy", "sklearn"}
    code = f"import sys, predict; predict.main(); print(sorted({slow} & set(sys.modules)))"
    process = [sys.executable, "-c", code, *command(model, folder / "a.png", "--json")[1:]]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    output = subprocess.run(process, capture_output=True, text=True, env=environment, check=True).stdout
    row, imported = output.splitlines()
    assert json.loads(row)["label"] == "bright" and imported == "[]"


def test_a_list_is_read_from_standard_input_with_names_of_any_bytes(model, folder):
    name = os.fsencode(folder) + b"/\xff\xc3\xa4.png"
    photograph(Path(os.fsdecode(name)), 250)
    process = script(model, "-", "--json", input=name + b"\n\n" + os.fsencode(folder / "b.png"))
    predicted = rows(process.stdout.decode())
    assert [os.fsencode(row["path"]) for row in predicted] == [name, os.fsencode(folder / "b.png")]
    assert [row["label"] for row in predicted] == ["bright", "dark"]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_name_of_a_list_is_taken_as_soon_as_it_is_there(separator):
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stdin, os.fdopen(write_end, "wb", buffering=0) as stdout:
        listed = names.read(["first", "-", "last"], stdin)
        assert next(listed) == "first"
        for name in (b"a.png", b"b.png"):
            stdout.write(name + separator)
            assert next(listed) == name.decode()
        stdout.write(b"c.p")
        stdout.write(b"ng")
        stdout.close()
        assert list(listed) == ["c.png", "last"]


def test_an_argument_may_be_the_address_of_a_file(tmp_path):
    (tmp_path / "a b#1.png").touch()
    assert list(names.read([f"file://{tmp_path}/a%20b%231.png"], None)) == [str(tmp_path / "a b#1.png")]
    assert list(names.read([f"file://{tmp_path}/none.png"], None)) == [f"file://{tmp_path}/none.png"]


def test_an_empty_list_gives_a_message(model):
    process = script(model, "-", input=b"")
    assert process.returncode == 1
    assert process.stderr.decode().endswith("predict: no photograph was named\n")


def test_it_exits_silently_if_stdout_is_closed_early(model, folder):
    arguments = command(model, *[folder / "a.png"] * 200, "--json")[1:]
    process = subprocess.Popen(
        [sys.executable, ROOT / "src/predict.py", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141
    process.stderr.close()


def test_a_class_is_predicted_above_its_threshold_and_in_a_set_from_its_limit_on():
    probabilities = np.array([[0.75, 0.25], [0.5, 0.5]])
    decision = deployed_model.Decision(threshold=0.25, sets={0.9: (0.5, 0.25)})
    assert decision.predict(probabilities).tolist() == [0, 1]
    assert decision.set_of(probabilities[0], 0, 0.9) == [0, 1]


def test_the_predicted_class_is_in_its_set_even_below_its_limit():
    decision = deployed_model.Decision(sets={0.9: (0.9, 0.9)})
    assert decision.set_of(np.array([0.6, 0.4]), 0, 0.9) == [0]
