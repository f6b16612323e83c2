"""An export answers as the Keras model does, says what it is, and is kept only then; the README's lines work."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import export
import predict
from thaw import deployed, tables
from thaw.errors import ThawError, run
from thaw.exports import checks, formats
from thaw.exports.formats import FORMATS

ROOT = Path(__file__).parents[1]
SIZE = 24
CLASSES = ("bright", "dunkel·漢", 'a "third"')
TEMPERATURE = 1.5
PLACES = {
    "tflite": ["model.tflite"],
    "tflite-float16": ["model-float16.tflite"],
    "tflite-int8": ["model-int8.tflite"],
    "onnx": ["model.onnx"],
    "openvino": ["openvino/model.bin", "openvino/model.xml"],
    "saved_model": ["saved_model/assets.extra/labels.txt", "saved_model/assets.extra/metadata.json",
                    "saved_model/saved_model.pb"],
}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    """A network of the kinds of layers that backbones have, with random weights that BatchNorm does not flatten."""
    from thaw.keras import keras

    keras.utils.set_random_seed(4)
    layers = keras.layers
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 128, offset=-1.0)(image)
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.0, name="norm")(x)
    x = layers.ReLU(max_value=6)(x)
    shortcut = x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Activation("gelu")(layers.Conv2D(32, 3, padding="same", groups=32)(x))
    x = layers.Activation("swish")(layers.Conv2D(32, 3, padding="same")(x))
    x = layers.GlobalAveragePooling2D()(layers.Add()([shortcut, x]))
    dense = layers.Dense(len(CLASSES), activation="softmax")
    body, model = keras.Model(image, x), keras.Model(image, dense(x))
    drawn = np.stack([np.asarray(draw(np.random.default_rng(number))) for number in range(40)]).astype(np.float32)
    body(drawn, training=True)
    features = body(drawn, training=False).numpy()
    kernel = np.random.default_rng(0).normal(size=(features.shape[1], len(CLASSES))).astype(np.float32)
    kernel *= 2 / ((features - features.mean(axis=0)) @ kernel).std(axis=0)
    dense.set_weights([kernel, -features.mean(axis=0) @ kernel])
    return model


def draw(generator: np.random.Generator) -> Image.Image:
    """A photograph that fades from one colour to others."""
    corners = Image.fromarray(generator.integers(0, 256, (2, 2, 3), np.uint8))
    return corners.resize((40, 32), Image.Resampling.BILINEAR)


@pytest.fixture(scope="module")
def checkout(network, tmp_path_factory) -> Path:
    """A folder with a model, its decision, and 60 photographs of all colours in their splits."""
    from thaw import models

    folder = tmp_path_factory.mktemp("checkout")
    (folder / "data/raw/images").mkdir(parents=True)
    generator = np.random.default_rng(1)
    images, split = [], []
    for number in range(60):
        image_id, part = f"cell{number:04}", tables.SPLITS[number % 3]
        draw(generator).save(folder / f"data/raw/images/{image_id}.png")
        label = CLASSES[number % len(CLASSES) if number else 1]
        row = dict.fromkeys(tables.IMAGES, "") | {"weight": 1.0, "width": 40, "height": 32}
        images.append(row | {"image_id": image_id, "path": f"images/{image_id}.png", "label": label})
        split.append({"image_id": image_id, "label": label, "weight": 1.0, "group": image_id, "split": part})
    tables.write(pl.DataFrame(images), folder / "data/raw/images.csv")
    tables.write(pl.DataFrame(split), folder / "data/split.csv")
    (folder / "models").mkdir()
    metadata = {"class_names": CLASSES, "image": {"size": SIZE, "resize": "crop"}}
    models.save(network, folder / "models/model.keras", metadata)
    of_model = {"temperature": TEMPERATURE, "threshold": None}
    (folder / "models/decision.json").write_text(
        json.dumps({"class_names": CLASSES, "models": {"fine_tuned": of_model}})
    )
    return folder


@pytest.fixture
def call(checkout, monkeypatch, capfd):
    """What the script prints for its arguments, its exit status and its complaints, C++ included."""

    def called(*arguments: object, main=export.main) -> tuple[str, object, str]:
        monkeypatch.chdir(checkout)
        monkeypatch.setattr(sys, "argv", ["export.py", *map(str, arguments)])
        status = 0
        try:
            run(main)
        except SystemExit as end:
            status = end.code
        printed = capfd.readouterr()
        return printed.out, status, printed.err

    return called


@pytest.fixture(scope="module")
def exported(checkout) -> tuple[Path, str, str]:
    """The folder of all exports, made by the script in a process of its own, and all that it printed."""
    command = [sys.executable, ROOT / "src/export.py", "--format", "all"]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    process = subprocess.run(command, cwd=checkout, capture_output=True, text=True, env=environment, timeout=300)
    assert process.returncode == 0, process.stderr
    return checkout / "models/exports", process.stdout, process.stderr


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def load(name: str, folder: Path) -> formats.Engine:
    from thaw.exports import onnx, openvino, saved_model, tflite

    module = {"onnx": onnx, "openvino": openvino, "saved_model": saved_model}.get(name, tflite)
    return module.load(folder / FORMATS[name].place)


# What is written


def test_every_format_is_written_and_nothing_else(exported):
    assert listing(exported[0]) == sorted(path for paths in PLACES.values() for path in paths)


def test_what_is_printed_is_a_table_and_the_accuracy_in_8_bits(exported):
    _, output, complaints = exported
    title, header, *rows, note = output.splitlines()
    assert complaints == "" and title.startswith("export: models/model.keras into models/exports, checked on 20 ")
    assert header.split() == ["format", "file", "MB", "difference", "images/s"]
    assert [row.split()[0] for row in rows] == ["keras", *FORMATS]
    assert all(re.fullmatch(r"\S+ +\S+ +\d+\.\d +(\d\.\de-\d\d +)?\d+", row) for row in rows)
    assert re.match(
        r"tflite-int8: the same answer as Keras to [\d.]+% of 20 photographs .*weighted accuracy [+-]", note
    )


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_answers_as_keras_does(exported, network, checkout, name):
    paths = sorted((checkout / "data/raw/images").iterdir())
    description = deployed.Description(CLASSES, SIZE, "crop")
    photographs, _ = checks.of_paths(map(str, paths), description, 60)
    answers, _ = checks.ask(load(name, exported[0]), photographs.views)
    expected = network(photographs.views.astype(np.float32), training=False).numpy()
    assert np.ptp(expected, axis=0).min() > 0.3, "the network tells these photographs apart"
    if name == "tflite-int8":
        assert (answers.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.85
    else:
        np.testing.assert_allclose(answers, expected, atol=FORMATS[name].tolerance)


def read_onnx(folder: Path) -> dict:
    import onnxruntime

    known = onnxruntime.InferenceSession(folder / "model.onnx").get_modelmeta().custom_metadata_map
    return {key: known[key] if key in ("input", "output") else json.loads(known[key]) for key in known}


def read_openvino(folder: Path) -> dict:
    from thaw.openvino import ov

    network = ov.Core().read_model(folder / "openvino/model.xml")
    facts = {key: network.get_rt_info(["thaw", key]).astype(str) for key in ("class_names", "image", "temperature")}
    return {key: json.loads(text) for key, text in facts.items()}


METADATA = {
    "onnx": read_onnx,
    "openvino": read_openvino,
    "saved_model": lambda folder: json.loads((folder / "saved_model/assets.extra/metadata.json").read_text("utf-8")),
} | {
    name: lambda folder, name=name: json.loads(zipfile.ZipFile(folder / FORMATS[name].place).read("metadata.json"))
    for name in ("tflite", "tflite-float16", "tflite-int8")
}


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_says_what_its_classes_are_and_what_it_wants(exported, name):
    facts = METADATA[name](exported[0])
    assert tuple(facts["class_names"]) == CLASSES
    assert facts["image"] == {"size": SIZE, "resize": "crop"} and facts["temperature"] == TEMPERATURE


def test_an_export_says_what_its_temperature_is_of():
    description = deployed.Description(CLASSES, SIZE, "crop")
    plain = formats.describe(description, deployed.Decision(TEMPERATURE))
    flipped = formats.describe(description, deployed.Decision(TEMPERATURE, test_time_flips="both"))
    assert "test_time_flips" not in plain and "mirror images" not in plain["output"]
    assert flipped["test_time_flips"] == "both" and "mirror images" in flipped["output"]


def test_an_export_says_which_class_lies_above_the_threshold():
    facts = formats.describe(deployed.Description(("no", "yes"), SIZE, "crop"), deployed.Decision(1.0, 0.3))
    assert "'yes' is the answer where its own lies above threshold, else 'no'" in facts["output"]


def test_a_tflite_file_describes_itself_to_mediapipe(exported):
    from ai_edge_litert import schema_py_generated as schema

    data = (exported[0] / "model.tflite").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    (table,) = (model.buffers[entry.buffer].data for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    assert bytes(table[4:8]) == b"M001" and b"labels.txt" in bytes(table)
    with zipfile.ZipFile(exported[0] / "model.tflite") as archive:
        assert tuple(archive.read("labels.txt").decode().splitlines()) == CLASSES


@pytest.mark.parametrize("name", ["tflite", "tflite-float16", "tflite-int8"])
def test_the_weights_of_a_tflite_file_are_aligned(exported, name):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs((exported[0] / FORMATS[name].place).read_bytes())
    buffers = [model.Buffers(number) for number in range(model.BuffersLength())]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert len(starts) > 5 and not [start for start in starts if start % 16]


def test_float16_halves_the_large_weights_alone(exported):
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs((exported[0] / "model-float16.tflite").read_bytes()).Subgraphs(0)
    tensors = [graph.Tensors(number) for number in range(graph.TensorsLength())]
    halved = [tensor for tensor in tensors if tensor.Type() == schema.TensorType.FLOAT16]
    assert [sorted(tensor.ShapeAsNumpy()) for tensor in halved] == [[3, 3, 32, 32]]
    whole, half = ((exported[0] / name).stat().st_size for name in ("model.tflite", "model-float16.tflite"))
    assert half < whole - 2 * 32 * 32 * 9 + 2000


def test_another_process_writes_the_same_bytes(exported, call, tmp_path):
    output, status, complaints = call("--format", "all", "--output", tmp_path)
    assert (status, complaints) == (0, "") and len(output.splitlines()) == 10
    assert listing(tmp_path) == listing(exported[0])
    assert not [
        name for name in listing(tmp_path) if (tmp_path / name).read_bytes() != (exported[0] / name).read_bytes()
    ]


def test_no_export_holds_a_path_of_this_machine(exported, checkout):
    paths = [str(part).encode() for part in (checkout, ROOT, Path.home(), "/tmp/", sys.prefix)]
    found = [(name, path) for name in listing(exported[0]) for path in paths
             if path != b"/" and path in (exported[0] / name).read_bytes()]  # fmt: skip
    assert not found


def test_git_does_not_see_the_exports(exported):
    assert subprocess.run(["git", "check-ignore", "-q", "models/exports/model.onnx"], cwd=ROOT).returncode == 0


def test_a_sigmoid_of_two_classes_is_exported_too(tmp_path):
    from thaw import network_head, params
    from thaw.keras import keras

    head = params.load(ROOT / "params.yaml").head.model_copy(update={"kind": "network", "output": "sigmoid"})
    image = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    network = keras.Model(image, network_head.build((3,), 2, head)(pooled))
    facts = formats.describe(deployed.Description(("a", "b"), SIZE, "squash"), None)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, SIZE, SIZE, 3)).astype(np.float32)
    for name in ("tflite", "onnx"):
        answer = formats.export(name, network, facts, tmp_path / FORMATS[name].place, None, lambda run: run(pixels))
        np.testing.assert_allclose(answer, network(pixels), atol=1e-5)


# What is checked


def test_an_export_that_differs_is_not_kept_and_the_others_are(exported, call, monkeypatch, tmp_path):
    (tmp_path / "model.tflite").write_text("an older one")
    monkeypatch.setitem(FORMATS, "tflite", replace(FORMATS["tflite"], tolerance=-1.0))
    output, status, complaint = call("--format", "tflite", "saved_model", "--output", tmp_path)
    assert status == 1 and [row.split()[0] for row in output.splitlines()[2:]] == ["keras", "saved_model"]
    assert re.fullmatch(r"export: tflite is not written: its probabilities differ from Keras' by up to .*\n", complaint)
    assert listing(tmp_path) == ["model.tflite", *PLACES["saved_model"]]
    assert (tmp_path / "model.tflite").read_text() == "an older one"


def test_probabilities_that_are_none_are_refused():
    with pytest.raises(ThawError, match="differ from Keras'"):
        checks.largest_difference(np.float32([[np.nan, 1]]), np.float32([[0, 1]]), None)


def of_labels(labels: list[int], classes: int = 2) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[labels] * 0.8 + 0.2 / classes


def test_8_bits_that_answer_well_are_measured_and_those_that_do_not_are_refused():
    truth = [0, 1] * 100
    known = checks.Photographs(
        np.zeros((200, 1, 1, 3), np.uint8), np.array(truth), np.ones(200), np.arange(200).astype(str)
    )
    unknown = checks.Photographs(known.views)
    keras, slips = of_labels(truth), of_labels([1, *truth[1:]])
    words = checks.quantised(slips, keras, known, 200, 1)
    assert words.startswith("the same answer as Keras to 99.5% of 200 photographs") and "accuracy -0.5 points" in words
    assert "accuracy" not in checks.quantised(slips, keras, unknown, 200, 1)
    for photographs in (known, unknown):
        with pytest.raises(ThawError, match="8 bits are not enough"):
            checks.quantised(of_labels([0] * 200), keras, photographs, 200, 1)


def pictures(views: np.ndarray) -> set[bytes]:
    return {view.tobytes() for view in views}


def options(**given) -> object:
    import argparse

    return argparse.Namespace(**{"format": ["tflite-int8"], "photographs": None} | given)


def test_8_bits_are_calibrated_on_training_photographs_and_checked_on_test_ones(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    description = deployed.Description(CLASSES, SIZE, "crop")
    calibration, photographs = export.choose(options(), description)
    paths = {part: [f"data/raw/images/cell{n:04}.png" for n in range(60) if n % 3 == place]
             for place, part in enumerate(tables.SPLITS)}  # fmt: skip
    wanted = {part: pictures(checks.of_paths(paths[part], description, 60)[0].views) for part in paths}
    assert pictures(calibration) == wanted["train"] and pictures(photographs.views) == wanted["test"]
    again, _ = export.choose(options(), description)
    assert again.tobytes() == calibration.tobytes()


def test_a_model_that_was_extended_is_checked_on_what_shows_no_new_class_too(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    description = deployed.Description(("a", CLASSES[0]), SIZE, "crop")
    split = pl.read_csv("data/split.csv")
    split = split.with_columns(label=pl.col("label").replace(dict.fromkeys(CLASSES[1:], "not new")))
    split.write_csv(checkout.parent / "extended.csv")
    monkeypatch.setattr(export, "SPLIT", checkout.parent / "extended.csv")
    calibration, photographs = export.choose(options(), description)
    assert len(calibration) == len(photographs.views) == 20
    assert photographs.labels is None


def test_photographs_of_ones_own_calibrate_by_one_half_and_check_by_the_other(checkout):
    description = deployed.Description(CLASSES, SIZE, "crop")
    calibration, photographs = export.choose(options(photographs=[str(checkout / "data/raw/images")]), description)
    assert len(calibration) == len(photographs.views) == 30 and photographs.labels is None
    assert not pictures(calibration) & pictures(photographs.views)


def test_what_cannot_be_read_of_ones_own_photographs_is_said(checkout, capfd, tmp_path):
    (tmp_path / "text.jpg").write_text("no photograph")
    description = deployed.Description(CLASSES, SIZE, "crop")
    names = [str(tmp_path), str(checkout / "data/raw/images/cell0001.png")]
    _, photographs = export.choose(options(format=["onnx"], photographs=names), description)
    assert len(photographs.views) == 1
    assert capfd.readouterr().err == f"export: {tmp_path}/text.jpg: not an image that can be read\n"
    with pytest.raises(ThawError, match=r"no photograph to check with: .*text.jpg: not an image"):
        export.choose(options(photographs=names[:1]), description)


def test_without_data_photographs_are_asked_for(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ThawError, match=r"data/split.csv is missing; name some with --photographs, or run `dvc pull"):
        export.choose(options(), deployed.Description(CLASSES, SIZE, "crop"))


def test_a_photograph_that_is_no_longer_there_is_one_line(checkout, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(checkout / "data/raw", raw)
    gone = pl.read_csv(checkout / "data/split.csv").filter(split="test")["image_id"][0]
    pl.read_csv(raw / "images.csv").filter(pl.col("image_id") != gone).write_csv(raw / "images.csv")
    description = deployed.Description(CLASSES, SIZE, "crop")
    with pytest.raises(ThawError, match=f"{gone}, which is not among the photographs"):
        checks.of_split(raw, checkout / "data/split.csv", "test", description, 100, 1)


def test_photographs_of_other_classes_are_refused(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    with pytest.raises(ThawError, match="which the model does not know"):
        export.choose(options(), deployed.Description(("cat", *CLASSES[1:]), SIZE, "crop"))


# What is wrong


def refused(call, *arguments: object) -> str:
    """The one line of an error, after which nothing was written."""
    output, status, complaint = call(*arguments)
    assert not output and (complaint + (status if isinstance(status, str) else "")).count("\n") <= 1
    assert status not in (0, 2)
    return str(status)


def test_a_model_that_is_missing_or_none_of_thaws_is_one_line(call, network, tmp_path):
    from thaw import models

    (tmp_path / "text.keras").write_text("text")
    models.save(network, tmp_path / "backbone.keras", {"cut": None})
    image = {"size": SIZE, "resize": "crop"}
    models.save(network, tmp_path / "other.keras", {"class_names": [*CLASSES, "d"], "image": image})
    with zipfile.ZipFile(tmp_path / "bare.keras", "w") as file:
        file.writestr("metadata.json", json.dumps({"class_names": CLASSES, "image": image}))
    lines = {
        name: refused(call, "--format", "onnx", "--model", tmp_path / f"{name}.keras", "--output", tmp_path / "out")
        for name in ("missing", "text", "backbone", "other", "bare")
    }
    assert "is missing: run `dvc repro`" in lines["missing"]
    assert "not a model of Thaw's" in lines["text"] and "not a model of Thaw's" in lines["bare"]
    assert "not a classifier of Thaw's (it has no class_names)" in lines["backbone"]
    assert "not a classifier of Thaw's (it does not answer 4 probabilities)" in lines["other"]
    assert listing(tmp_path) == ["backbone.keras", "bare.keras", "other.keras", "text.keras"]


def test_a_folder_that_cannot_be_written_is_one_line_before_any_work(call, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/below", Path("/proc/exports")):
        assert "see --output" in refused(call, "--format", "onnx", "--output", place)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "Permission denied: see --output" in refused(call, "--format", "onnx", "--output", tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_leaves_nothing(network, tmp_path, name):
    facts = formats.describe(deployed.Description(CLASSES, SIZE, "crop"), None)
    calibration = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        openvino = name == "openvino"  # its writer does not say why it failed
        with pytest.raises(ThawError if openvino else OSError, match="the disk full" if openvino else "File too large"):
            formats.export(name, network, facts, tmp_path / FORMATS[name].place, calibration, lambda run: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_network_that_a_converter_refuses_is_one_line(network, tmp_path, monkeypatch):
    from thaw.exports import onnx

    def refuse(*_) -> None:
        raise NotImplementedError("no such\nstep")

    monkeypatch.setattr(onnx, "write", refuse)
    with pytest.raises(ThawError, match=r"cannot be written so \(NotImplementedError: no such step\)"):
        formats.export("onnx", network, {}, tmp_path / "model.onnx", None, lambda run: None)


def test_a_wrong_format_has_the_nearest_ones_and_no_tensorflow_is_imported(checkout):
    shown = "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    code = f"import sys, export\ntry:\n  export.main()\nfinally:\n  {shown}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    for arguments, status, words in (
        (["tflight"], 2, "there is no 'tflight' (did you mean tflite"),
        (["onnx", "-h"], 0, ""),
    ):
        process = subprocess.run([sys.executable, "-c", code, "--format", *arguments], cwd=checkout,
                                 capture_output=True, text=True, env=environment)  # fmt: skip
        assert process.returncode == status and words in process.stderr
        assert process.stdout.endswith("[]\n")
        assert status or all(name in process.stdout for name in FORMATS)


# Used without Thaw


def blocks() -> dict[str, str]:
    """The README's Python, by the engine that it uses."""
    found = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)
    return {next(name for name in ("litert", "onnxruntime", "keras") if name in text): text for text in found}


@pytest.mark.parametrize("engine", ["keras", "litert", "onnxruntime"])
def test_the_lines_in_the_readme_answer_as_predict_does(exported, checkout, call, engine):
    text = blocks()[engine]
    assert len(text.splitlines()) <= 12 and "thaw" not in text
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    printed = subprocess.run([sys.executable, "-c", text], cwd=checkout, capture_output=True, text=True,
                             env=environment, check=True).stdout  # fmt: skip
    label, probability = printed.strip().rsplit(" ", 1)
    photograph = "data/raw/images/cell0001.png"
    assert photograph in text
    output, _, _ = call(photograph, "--json", "--cache", checkout / "cache", main=predict.main)
    answer = json.loads(output)
    odds = np.array(list(answer["probabilities"].values())) ** TEMPERATURE  # predict's are calibrated
    assert label == answer["label"]
    assert float(probability) == pytest.approx(odds.max() / odds.sum(), abs=5e-3)
