"""Photographs named in any way are answered in order, as the Keras model would; what cannot be read stops no other."""

import csv
import hashlib
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
from PIL import Image
from test_distance import write_features

import predict
from thaw import ahead, answer_sheet, answers, deployed, inference
from thaw.errors import ThawError, run

ROOT = Path(__file__).parents[1]
SIZE = 8
TEMPERATURE = 2.0


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The file of a model that tells dark photographs from bright ones, its decision beside it, and converted."""
    from thaw import models
    from thaw.keras import keras

    image = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(2, activation="softmax")
    network = keras.Model(image, dense(pooled))
    dense.set_weights([np.float32([[2, -2], [1, -1], [1, -1]]) * -2, np.float32([4, -4])])
    path = tmp_path_factory.mktemp("models") / "model.keras"
    image = {"size": SIZE, "resize": "crop", "engine": "openvino"}
    models.save(network, path, {"class_names": ["dark", "bright"], "image": image})
    decide(path, threshold=0.5)
    deployed.network(path, path.parent / "cache")
    return path


def decide(model: Path, threshold: float, classes: tuple[str, ...] = ("dark", "bright")) -> None:
    of_model = {"temperature": TEMPERATURE, "threshold": threshold, "aim_reached": True}
    text = json.dumps({"class_names": classes, "models": {"fine_tuned": of_model}})
    model.with_name("decision.json").write_text(text)


def photograph(path: Path, brightness: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (brightness, brightness, brightness)).save(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Photographs of all kinds of brightness and what is none, in folders."""
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
    """What the script prints for its arguments, and its exit status and complaints."""

    def asked(*arguments: object) -> tuple[str, int, str]:
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

    return asked


def rows(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


def script(model: Path, *arguments: object, **options) -> subprocess.CompletedProcess:
    process = [sys.executable, ROOT / "src/predict.py", *command(model, *arguments)[1:]]
    return subprocess.run(process, capture_output=True, timeout=60, **options)


# Which photographs


def shown(named) -> list[str]:
    return [str(item) if isinstance(item, Path) else f"{item.path}: {item.error}" for item in named]


def test_a_folder_is_its_photographs_sorted_then_its_subfolders(folder):
    names = [Path(path).relative_to(folder).as_posix() for path in shown(answers.expand([str(folder)]))]
    assert names == ["a.png", "b.png", "text.jpg", "zero.jpg", "sub/c.jpg"]


def test_a_file_is_taken_whatever_its_ending_and_names_keep_their_order(folder):
    names = [str(folder / "notes.txt"), str(folder / "b.png"), str(folder / "a.png"), str(folder / "b.png")]
    assert shown(answers.expand(names)) == names


def test_a_pattern_is_what_it_matches_sorted(folder):
    assert shown(answers.expand([f"{folder}/*.png"])) == [str(folder / "a.png"), str(folder / "b.png")]
    assert shown(answers.expand([f"{folder}/**/c.*"])) == [str(folder / "sub/c.jpg")]
    assert shown(answers.expand([f"{folder}/sub*", f"{folder}/s*b/"])) == [str(folder / "sub/c.jpg")] * 2
    assert shown(answers.expand([f"{folder}/*.gif"])) == [f"{folder}/*.gif: no file matches"]


def test_a_pattern_of_folders_within_folders_names_each_photograph_once(folder):
    photograph(folder / "sub/deep/d.png", 1)
    below = ["a.png", "b.png", "notes.txt", "sub/c.jpg", "sub/deep/d.png", "text.jpg", "zero.jpg"]
    whole = shown(answers.expand([str(folder)]))
    assert shown(answers.expand([f"{folder}/**/*"])) == [str(folder / name) for name in below]
    assert shown(answers.expand([f"{folder}/**"])) == [*whole, str(folder / "notes.txt")]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    names = [str(photograph(tmp_path / "a[1].png", 1))]
    assert shown(answers.expand(names)) == names


def test_an_empty_folder_is_an_error_of_its_own(tmp_path):
    assert shown(answers.expand([str(tmp_path)])) == [f"{tmp_path}: no photograph in this folder"]


def test_a_folder_that_may_not_be_read_is_an_error_and_the_rest_is_found(folder, monkeypatch):
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert shown(answers.expand([str(folder / "sub"), str(folder)]))[0] == f"{folder}/sub: cannot be read: " \
        "Permission denied"  # fmt: skip
    found = shown(answers.expand([str(folder)]))
    assert str(folder / "a.png") in found and f"{folder}/sub: cannot be read: Permission denied" in found


# What is seen of them


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
def test_what_is_no_photograph_is_seen_as_its_error(tmp_path, make, error):
    path = tmp_path / "photograph.jpg"
    make(path)
    (seen,) = answers.look([path], SIZE, "crop")
    assert seen == answers.Seen(str(path), None, error)


def test_a_decompression_bomb_and_a_name_too_long_are_errors(tmp_path):
    path = tmp_path / "bomb.bmp"
    Image.new("L", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = np.array([60_000, 60_000], "<i4").tobytes()  # its header's width and height
    path.write_bytes(data)
    bomb, long = answers.look([path, tmp_path / ("x" * 300)], SIZE, "crop")
    assert bomb.error == "over 200 megapixels" and long.error == "cannot be read: File name too long"


def test_a_photograph_of_an_iphone_says_which_package_it_wants(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "READS_HEIF", False)
    (tmp_path / "photograph.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (seen,) = answers.look(answers.expand([str(tmp_path)]), SIZE, "crop")
    assert "pillow-heif" in seen.error


def test_a_decoder_that_breaks_down_stops_no_other(folder, monkeypatch):
    def decode(path, least):
        if path.name == "a.png":
            raise IndexError("deep inside")
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr(answers.images, "decode", decode)
    first, second = answers.look([folder / "a.png", folder / "b.png"], SIZE, "crop")
    assert first.error == "damaged (IndexError: deep inside)" and second.view.shape == (SIZE, SIZE, 3)


def test_a_large_photograph_is_seen_as_any_other(tmp_path, monkeypatch):
    path = tmp_path / "photograph.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    (small,) = answers.look([path], SIZE, "crop")
    monkeypatch.setattr(answers, "LARGE", 100)
    (large,) = answers.look([path], SIZE, "crop")
    assert large.error is None and large.view.tobytes() == small.view.tobytes()


def test_a_photograph_held_upright_is_seen_upright(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "turned.png", exif=exif)
    (seen,) = answers.look([tmp_path / "turned.png"], SIZE, "crop")
    np.testing.assert_array_equal(seen.view, pixels)


def test_few_photographs_are_read_ahead(tmp_path):
    path, taken = photograph(tmp_path / "a.png", 1), []

    def named():
        for number in range(1000):
            taken.append(number)
            yield path

    seen = answers.look(named(), SIZE, "crop")
    next(seen)
    seen.close()
    assert len(taken) < 100


def brightest(batches):
    """An engine that answers with what a view is full of."""
    for batch in batches:
        yield batch[:, 0, 0, :1].astype(np.float32)


@pytest.mark.parametrize("kinds", ["", "1", "x", "xx1", "1x2x3", "12x", "xx", "123xxxx45xx67"])
def test_answers_and_errors_stand_in_the_order_of_the_photographs(kinds):
    seen = [
        answers.Seen(str(i), error="no") if kind == "x" else answers.Seen(str(i), np.full((2, 2, 3), int(kind)))
        for i, kind in enumerate(kinds)
    ]
    given = list(answers.answer(seen, brightest))
    assert [answer.seen for answer in given] == seen
    assert "".join("x" if a.probabilities is None else str(int(a.probabilities[0])) for a in given) == kinds


def test_distances_stand_with_the_answers_whose_they_are():
    def distances(batches):
        for batch in inference.rebatch(batches, 4):
            yield -batch[:, 0, 0, 0].astype(np.float32)

    seen = [answers.Seen("", error="no") if i % 3 == 1 else answers.Seen("", np.full((2, 2, 3), i)) for i in range(50)]
    given = list(answers.answer(iter(seen), brightest, distances))
    assert [answer.seen for answer in given] == seen
    assert [answer.distance for answer in given] == [None if i % 3 == 1 else -i for i in range(50)]
    assert [answer.probabilities for answer in given if answer.distance is not None] == [
        [i] for i in range(50) if i % 3 != 1
    ]


# What is answered


def test_probabilities_are_those_of_the_keras_model_calibrated(ask, folder, model):
    from thaw import models

    output, status, _ = ask(folder / "a.png", folder / "sub", "--json")
    network, _ = models.load(model)
    views = np.stack([np.full((SIZE, SIZE, 3), 130), np.full((SIZE, SIZE, 3), 250)])
    tempered = network(views.astype(np.float32)).numpy().astype(np.float64) ** (1 / TEMPERATURE)
    expected = tempered / tempered.sum(axis=1, keepdims=True)
    answered = rows(output)
    assert status == 0 and [row["path"] for row in answered] == [f"{folder}/a.png", f"{folder}/sub/c.jpg"]
    assert [row["label"] for row in answered] == ["bright", "bright"]
    for row, probabilities in zip(answered, expected, strict=True):
        np.testing.assert_allclose(list(row["probabilities"].values()), probabilities, atol=1e-5)
        assert list(row["probabilities"]) == ["dark", "bright"]
        assert row["probability"] == row["probabilities"][row["label"]]


def test_of_two_classes_the_threshold_decides(ask, folder, model):
    (before,) = rows(ask(folder / "a.png", "--json")[0])
    assert before["label"] == "bright"
    decide(model, threshold=before["probability"] + 0.01)
    try:
        (after,) = rows(ask(folder / "a.png", "--json")[0])
    finally:
        decide(model, threshold=0.5)
    assert after["label"] == "dark" and after["probability"] == before["probabilities"]["dark"] < 0.5


def test_without_a_threshold_the_likeliest_of_all_classes_is_the_answer():
    decision = deployed.Decision(threshold=None)
    assert decision.answers(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])).tolist() == [1, 0]


def test_without_a_decision_the_models_own_probabilities_count_and_that_is_said(ask, folder, model):
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
        deployed.decision(tmp_path / "decision.json", "fine_tuned", ("dark", "bright"), tmp_path / "model.keras")


def test_a_decision_for_the_model_of_another_run_is_left_alone(tmp_path):
    model, decision = tmp_path / "model.keras", tmp_path / "decision.json"
    model.write_bytes(b"this run's")
    decide(model, 0.25)
    chosen = json.loads(decision.read_text())
    for md5, threshold in (
        (hashlib.md5(b"this run's").hexdigest(), 0.25),
        (hashlib.md5(b"the last").hexdigest(), None),
    ):
        decision.write_text(json.dumps(chosen | {"model_md5": md5}))
        found = deployed.decision(decision, "fine_tuned", ("dark", "bright"), model)
        assert (found.threshold if found else None) == threshold


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"class_names": ["dark", "bright"], "models": {"fine_tuned": {}}}'])
def test_a_decision_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "decision.json").write_text(text)
    with pytest.raises(ThawError, match="no decision of Thaw's"):
        deployed.decision(tmp_path / "decision.json", "fine_tuned", ("dark", "bright"), tmp_path / "model.keras")


@pytest.mark.parametrize("flips", ["sideways", ["both"], 1, {}, True])
def test_flips_that_there_are_not_are_refused(tmp_path, flips):
    decide(tmp_path / "model.keras", 0.5)
    decision = tmp_path / "decision.json"
    decision.write_text(json.dumps(json.loads(decision.read_text()) | {"test_time_flips": flips}))
    with pytest.raises(ThawError, match=re.escape(f"asks for the test-time flips {flips!r}")):
        deployed.decision(decision, "fine_tuned", ("dark", "bright"), tmp_path / "model.keras")


# How far from the training photographs


def tints(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(150, 15, (count, 3)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run whose photographs are greyish, 60 for training, each with a red copy, and 100 for validation."""
    from thaw import openvino
    from thaw.conversion import convert
    from thaw.keras import keras

    folder = tmp_path_factory.mktemp("run")
    image = keras.Input((None, None, 3))
    backbone = keras.Model(image, {"features": keras.layers.GlobalAveragePooling2D(name="features")(image)})
    (folder / "models/backbone").mkdir(parents=True)
    openvino.write(convert(backbone), folder / "models/backbone/backbone.xml")
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
    """A grey photograph, one that cannot be read, and two of colours that were never seen."""
    coloured(tmp_path / "strange/a.png", (140, 150, 145))
    (tmp_path / "strange/b.png").touch()
    coloured(tmp_path / "strange/c.png", (250, 0, 0))
    coloured(tmp_path / "strange/d.png", (30, 40, 255))
    return tmp_path / "strange"


def test_what_is_nothing_like_the_training_photographs_is_unsure(ask, here, strange):
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
    answered = table(output)
    columns = ["path", "label", "probability", "distance", "unsure", "error", "probability_dark", "probability_bright"]
    assert list(answered[0]) == columns and [row["unsure"] for row in answered] == ["False", "", "True", "True"]
    lines = ask(strange, "--far", 0.99)[0].splitlines()
    assert [" unsure " in line for line in lines] == [False, False, True, True]
    titles = []
    monkeypatch.setattr(predict.Sheet, "add", lambda self, view, title, name: titles.append(title))
    monkeypatch.setattr(predict.Sheet, "write", lambda self, path: None)
    ask(strange, "--far", 0.99, "--sheet", "sheet.png")
    assert [title.endswith(" ?") for title in titles] == [False, False, True, True]


def test_an_answer_is_unsure_for_either_reason(ask, here, strange):
    reasons = [["--far", 0.99], ["--unsure", 0.9], ["--far", 0.99, "--unsure", 0.9]]
    far, improbable, either = (
        [row["unsure"] for row in rows(ask(strange, "--json", *reason)[0]) if "label" in row] for reason in reasons
    )
    assert far != improbable and either == [a or b for a, b in zip(far, improbable, strict=True)]


@pytest.mark.parametrize("artifact", ["data/features", "data/split.csv", "models/backbone"])
def test_without_what_the_model_was_trained_on_one_line_says_what_to_pull(ask, here, strange, artifact):
    shutil.move(artifact, "elsewhere")
    output, status, complaint = ask(strange, "--far", 0.99)
    assert status == 1 and not output and complaint.count("\n") == 1
    assert "dvc pull data/features data/split.csv models/backbone" in complaint
    assert ask(strange)[1] == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda: lock(Path(), 2 * SIZE, "crop"), "of 16 pixels (crop), the model wants 8 (crop)"),
        (lambda: lock(Path(), SIZE, "pad"), "of 8 pixels (pad), the model wants 8 (crop)"),
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


def test_a_size_that_was_left_to_the_backbone_is_the_backbones(ask, here, strange):
    lock(here, None, "crop")
    Path("models/backbone/backbone.json").write_text(json.dumps({"size": SIZE}))
    assert ask(strange, "--far", 0.99)[1] == 0
    Path("models/backbone/backbone.json").write_text(json.dumps({"size": SIZE + 1}))
    assert "of 9 pixels" in ask(strange, "--far", 0.99)[2]


def test_a_share_that_validation_is_too_small_for_is_refused(ask, here, strange):
    _, status, complaint = ask(strange, "--far", 0.999)
    assert status == 1 and "100 validation photographs are too few" in complaint and "at most 0.99" in complaint


# What is printed


def test_what_cannot_be_read_is_a_line_with_its_error_and_the_others_are_answered(ask, folder):
    output, status, complaint = ask(folder, folder / "nothere.jpg", "--json")
    errors = {Path(row["path"]).name: row["error"] for row in rows(output) if "error" in row}
    assert status == 0 and len(rows(output)) == 6 and set(errors) == {"text.jpg", "zero.jpg", "nothere.jpg"}
    assert all(set(row) == {"path", "error"} for row in rows(output) if "error" in row)
    assert complaint == "predict: 3 answered, 3 could not be read\n"


def test_where_nothing_is_answered_the_status_is_1(ask, tmp_path):
    assert ask(tmp_path)[1] == 1


def test_a_line_for_a_person_has_label_probability_and_path(ask, folder):
    output, _, _ = ask(folder / "b.png", folder / "zero.jpg", folder / "sub", "--top", 2)
    dark, error, bright = output.splitlines()
    label, probability, path, *top = dark.split()
    assert (label, path, top[0]) == ("dark", str(folder / "b.png"), "dark") and probability == top[1].rstrip(",")
    assert error.endswith(f"{folder}/zero.jpg: an empty file") and bright.startswith("bright")


def test_top_is_the_likeliest_first(ask, folder):
    both = rows(ask(folder / "a.png", "--json", "--top", 2)[0])[0]["probabilities"]
    one = rows(ask(folder / "a.png", "--json", "--top", 1)[0])[0]["probabilities"]
    assert list(both) == ["bright", "dark"] and list(one) == ["bright"]


def test_an_answer_of_a_low_probability_is_marked_unsure(ask, folder):
    unsure, sure = rows(ask(folder / "a.png", folder / "sub", "--json", "--unsure", 0.8)[0])
    assert (unsure["unsure"], sure["unsure"]) == (True, False)
    assert "unsure" in ask(folder / "a.png", "--unsure", 0.8)[0]
    assert "unsure" not in ask(folder / "sub", "--unsure", 0.8)[0]


def table(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_row_for_each_and_a_column_for_each_class(ask, folder, tmp_path):
    file = tmp_path / "answers.csv"
    output, _, _ = ask(folder, "--csv", file)
    assert not output and file.read_text() == ask(folder, "--csv")[0]
    answered = table(file.read_text())
    assert list(answered[0]) == ["path", "label", "probability", "error", "probability_dark", "probability_bright"]
    assert answered[0]["probability"] == answered[0]["probability_bright"]
    assert answered[2]["error"] == "not an image that can be read" and not answered[2]["probability_dark"]


def test_csv_with_top_has_the_likeliest_first(ask, folder):
    answered = table(ask(folder, "--csv", "--top", 5)[0])
    assert list(answered[0])[4:] == ["label_1", "probability_1", "label_2", "probability_2"]
    assert [row["label_1"] for row in answered if row["label"]] == ["bright", "dark", "bright"]


@pytest.mark.parametrize("name", ["sheet.png", "sheet.jpg"])
def test_the_sheet_shows_every_photograph(ask, folder, tmp_path, name):
    ask(folder, "--sheet", tmp_path / name)
    with Image.open(tmp_path / name) as sheet:
        pixels = np.asarray(sheet.convert("L")).astype(int)
    middles = pixels[78, [78 + 150 * column for column in range(5)]]
    assert pixels.shape == (190, 756)
    np.testing.assert_allclose(middles, [130, 20, 211, 211, 250], atol=4)


@pytest.mark.parametrize("ending", answer_sheet.ENDINGS)
def test_the_longest_sheet_fits_into_every_format(tmp_path, ending):
    sheet = answer_sheet.Sheet()
    for number in range(answer_sheet.MOST + 1):
        sheet.add(None, "bright", str(number))
    sheet.write(tmp_path / f"sheet{ending}")
    with Image.open(tmp_path / f"sheet{ending}") as written:
        assert written.height == answer_sheet.MOST // 10 * 184 + 6
    assert sheet.left_out == 1


def test_the_same_photographs_give_the_same_sheet(ask, folder, tmp_path):
    ask(folder, "--sheet", tmp_path / "one.png")
    ask(folder, "--sheet", tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_no_photograph_is_overwritten(ask, folder):
    before = (folder / "a.png").read_bytes()
    _, status, complaint = ask(folder, "--sheet", folder / "a.png")
    assert status == 1 and "would be overwritten" in complaint
    assert ask(folder, "--csv", folder / "a.png")[1] == 2
    assert (folder / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [["--top", "0"], ["--unsure", "2"], ["--far", "1"], ["--far", "0"], ["--sheet", "a.txt"], ["--csv", "--json"]],
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
            deployed.describe(tmp_path / f"{name}.keras")
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
    monkeypatch.setattr(deployed, "_convert", lambda path, folder: converted.append(folder.name))
    kept = deployed.network(model, model.parent / "cache")
    assert kept.exists() and not converted
    changed = tmp_path / "model.keras"
    changed.write_bytes(model.read_bytes() + b"\0")
    deployed.network(changed, model.parent / "cache")
    assert len(converted) == 1 and converted[0] != kept.parent.name


def test_a_model_is_converted_again_when_the_code_that_converts_changes(model, tmp_path, monkeypatch):
    before = deployed.network(model, model.parent / "cache")
    (tmp_path / "conversion.py").write_text("of another version")
    converted = []
    monkeypatch.setattr(deployed, "_convert", lambda path, folder: converted.append(folder))
    monkeypatch.setattr(deployed, "__file__", str(tmp_path / "deployed.py"))
    assert deployed.network(model, model.parent / "cache").parent == converted[0] != before.parent


def test_of_two_processes_one_converts_and_the_other_takes_what_it_made(model, tmp_path, monkeypatch):
    begun, converted = threading.Event(), []

    def convert(path: Path, folder: Path) -> None:
        begun.set()
        time.sleep(0.2)
        folder.mkdir()
        (folder / "model.xml").touch()
        converted.append(folder)

    monkeypatch.setattr(deployed, "_convert", convert)
    first = ahead.begin(lambda: deployed.network(model, tmp_path / "cache"))
    assert begun.wait(10)
    second = deployed.network(model, tmp_path / "cache")
    assert first.result() == second == converted[0] / "model.xml"
    assert len(converted) == 1


def test_of_converted_models_those_used_last_are_kept_and_nothing_else_is_removed(model, tmp_path, monkeypatch):
    def convert(path: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.xml").touch()

    monkeypatch.setattr(deployed, "_convert", convert)
    monkeypatch.setattr(deployed, "KEPT", 3)
    cache = tmp_path / "cache"
    (cache / "photographs").mkdir(parents=True)
    models, kept = [], []
    for number in range(4):
        models.append(tmp_path / f"{number}.keras")
        models[-1].write_text(str(number))
        kept.append(deployed.network(models[-1], cache).parent)
        os.utime(kept[-1], (number, number))
        if number == 2:
            deployed.network(models[0], cache)
    assert [folder.exists() for folder in kept] == [True, False, True, True]
    assert len(list(cache.iterdir())) == 4 and (cache / "photographs").exists()


@pytest.mark.parametrize("event", ["used", "removed"])
def test_a_converted_model_that_another_process_uses_or_removes_meanwhile_is_no_error(tmp_path, monkeypatch, event):
    folders = [tmp_path / (f"{number}" * 64) for number in range(3)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        os.utime(folder, (number, number))

    def order(used, key):
        os.utime(folders[0]) if event == "used" else folders[0].rmdir()
        return sorted(used, key=key)

    monkeypatch.setattr(deployed, "sorted", order, raising=False)
    monkeypatch.setattr(deployed, "KEPT", 1)
    deployed._forget(tmp_path)
    assert [folder.exists() for folder in folders] == [event == "used", False, True]


# The process


def test_a_converted_model_answers_without_importing_what_is_slow(model, folder):
    slow = {"tensorflow", "keras", "polars", "scipy", "sklearn"}
    code = f"import sys, predict; predict.main(); print(sorted({slow} & set(sys.modules)))"
    process = [sys.executable, "-c", code, *command(model, folder / "a.png", "--json")[1:]]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    output = subprocess.run(process, capture_output=True, text=True, env=environment, check=True).stdout
    answered, imported = output.splitlines()
    assert json.loads(answered)["label"] == "bright" and imported == "[]"


def test_a_list_is_read_from_standard_input_with_names_of_any_bytes(model, folder):
    name = os.fsencode(folder) + b"/\xff\xc3\xa4.png"
    photograph(Path(os.fsdecode(name)), 250)
    process = script(model, "-", "--json", input=name + b"\n\n" + os.fsencode(folder / "b.png"))
    answered = rows(process.stdout.decode())
    assert [os.fsencode(row["path"]) for row in answered] == [name, os.fsencode(folder / "b.png")]
    assert [row["label"] for row in answered] == ["bright", "dark"]


def test_a_list_of_nothing_is_said_to_be_one(model):
    process = script(model, "-", input=b"")
    assert process.returncode == 1
    assert process.stderr.decode().endswith("predict: no photograph was named\n")


def test_a_reader_who_has_seen_enough_is_no_error(model, folder):
    arguments = command(model, *[folder / "a.png"] * 200, "--json")[1:]
    process = subprocess.Popen(
        [sys.executable, ROOT / "src/predict.py", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0
    process.stderr.close()
