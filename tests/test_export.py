"""An export predicts what the Keras model predicts, describes itself, and else is not kept. The guide's code runs."""

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
from thaw.core import tables
from thaw.core.errors import ThawError, run
from thaw.exports import check_images, checks, metadata, table, writing
from thaw.exports.base import Engine, Format, ModelToExport
from thaw.exports.registry import FORMATS
from thaw.prediction import deployed_model

ROOT = Path(__file__).parents[1]
SIZE = 24
CLASSES = ("bright", "dunkel·漢", 'a "third"')
TEMPERATURE = 1.5
FILES = {
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
    from thaw.engines.keras_setup import keras

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
    from thaw.engines import model_files

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
    model_files.save(network, folder / "models/model.keras", metadata)
    chosen = {"temperature": TEMPERATURE, "threshold": None}
    (folder / "models/decision.json").write_text(json.dumps({"class_names": CLASSES, "models": {"fine_tuned": chosen}}))
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


def load(name: str, folder: Path) -> Engine:
    return FORMATS[name].load(folder / FORMATS[name].path)


# What is written


def test_every_format_is_written_and_nothing_else(exported):
    assert listing(exported[0]) == sorted(path for paths in FILES.values() for path in paths)


def test_what_is_printed_is_a_table_and_the_accuracy_in_8_bits(exported):
    _, output, complaints = exported
    title, header, *rows, note = output.splitlines()
    assert complaints == "" and title.startswith("export: models/model.keras into models/exports, checked on 20 ")
    assert header.split() == ["format", "file", "MB", "difference", "images/s"]
    assert [row.split()[0] for row in rows] == ["keras", *FORMATS]
    assert all(re.fullmatch(r"\S+ +\S+ +\d+\.\d +(\d\.\de-\d\d +)?\d+", row) for row in rows)
    assert re.match(
        r"tflite-int8: the same prediction as Keras for [\d.]+% of 20 photographs .*weighted accuracy [+-]", note
    )


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_predicts_as_keras_does(exported, network, checkout, name):
    paths = sorted((checkout / "data/raw/images").iterdir())
    description = deployed_model.Description(CLASSES, SIZE, "crop")
    photographs, _ = check_images.read_names(map(str, paths), description, 60)
    probabilities, _ = checks.predict(load(name, exported[0]), photographs.views)
    expected = network(photographs.views.astype(np.float32), training=False).numpy()
    assert np.ptp(expected, axis=0).min() > 0.3, "the network tells these photographs apart"
    if name == "tflite-int8":
        assert (probabilities.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.85
    else:
        np.testing.assert_allclose(probabilities, expected, atol=FORMATS[name].tolerance)


def read_onnx(folder: Path) -> dict:
    import onnxruntime

    properties = onnxruntime.InferenceSession(folder / "model.onnx").get_modelmeta().custom_metadata_map
    return {key: properties[key] if key in ("input", "output") else json.loads(properties[key]) for key in properties}


def read_openvino(folder: Path) -> dict:
    from thaw.engines.openvino_setup import ov

    network = ov.Core().read_model(folder / "openvino/model.xml")
    described = {key: network.get_rt_info(["thaw", key]).astype(str) for key in ("class_names", "image", "temperature")}
    return {key: json.loads(text) for key, text in described.items()}


METADATA = {
    "onnx": read_onnx,
    "openvino": read_openvino,
    "saved_model": lambda folder: json.loads((folder / "saved_model/assets.extra/metadata.json").read_text("utf-8")),
} | {
    name: lambda folder, name=name: json.loads(zipfile.ZipFile(folder / FORMATS[name].path).read("metadata.json"))
    for name in ("tflite", "tflite-float16", "tflite-int8")
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_metadata_of_an_export_have_its_classes_and_its_input(exported, name):
    described = METADATA[name](exported[0])
    assert tuple(described["class_names"]) == CLASSES
    assert described["image"] == {"size": SIZE, "resize": "crop"} and described["temperature"] == TEMPERATURE


def test_the_metadata_say_whether_the_temperature_is_for_mirror_images_too():
    description = deployed_model.Description(CLASSES, SIZE, "crop")
    plain = metadata.describe(description, deployed_model.Decision(TEMPERATURE))
    flipped = metadata.describe(description, deployed_model.Decision(TEMPERATURE, test_time_flips="both"))
    assert "test_time_flips" not in plain and "mirror images" not in plain["output"]
    assert flipped["test_time_flips"] == "both" and "mirror images" in flipped["output"]


def test_the_metadata_say_which_class_lies_above_the_threshold():
    described = metadata.describe(
        deployed_model.Description(("no", "yes"), SIZE, "crop"), deployed_model.Decision(1.0, 0.3)
    )
    assert "'yes' is predicted where its own lies above threshold, else 'no'" in described["output"]


def test_the_metadata_say_from_which_probability_on_a_class_is_in_a_set():
    description = deployed_model.Description(("no", "yes"), SIZE, "crop")
    sets = {level: (level / 10, 0.0) for level in (0.8, 0.9, 0.95, 0.99, 0.999)}
    described = metadata.describe(description, deployed_model.Decision(sets=sets))
    assert described["sets"] == {"0.9": [0.09, 0.0], "0.95": [0.095, 0.0], "0.99": [0.099, 0.0]}
    assert "at least theirs" in described["output"]
    assert "sets" not in metadata.describe(description, deployed_model.Decision())


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

    model = schema.Model.GetRootAs((exported[0] / FORMATS[name].path).read_bytes())
    buffers = [model.Buffers(number) for number in range(model.BuffersLength())]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert len(starts) > 5 and not [start for start in starts if start % 16]


def test_float16_halves_the_large_weights_alone(exported):
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs((exported[0] / "model-float16.tflite").read_bytes()).Subgraphs(0)
    tensors = [graph.Tensors(number) for number in range(graph.TensorsLength())]
    halved = [tensor for tensor in tensors if tensor.Type() == schema.TensorType.FLOAT16]
    assert [sorted(tensor.ShapeAsNumpy()) for tensor in halved] == [[3, 3, 32, 32]]
    full, half = ((exported[0] / name).stat().st_size for name in ("model.tflite", "model-float16.tflite"))
    assert half < full - 2 * 32 * 32 * 9 + 2000


def test_another_process_writes_the_same_bytes(exported, call, tmp_path):
    output, status, complaints = call("--format", "all", "--output", tmp_path)
    assert (status, complaints) == (0, "") and len(output.splitlines()) == 10
    assert listing(tmp_path) == listing(exported[0])
    assert not [
        name for name in listing(tmp_path) if (tmp_path / name).read_bytes() != (exported[0] / name).read_bytes()
    ]


def test_no_export_holds_a_path_of_this_machine(exported, checkout):
    paths = [str(part).encode() for part in (checkout, ROOT, Path.home(), "/tmp/", sys.prefix)]
    leaks = [(name, path) for name in listing(exported[0]) for path in paths
             if path != b"/" and path in (exported[0] / name).read_bytes()]  # fmt: skip
    assert not leaks


def test_git_ignores_the_exports(exported):
    assert subprocess.run(["git", "check-ignore", "-q", "models/exports/model.onnx"], cwd=ROOT).returncode == 0


def test_a_sigmoid_of_two_classes_is_exported_too(tmp_path):
    from thaw.core import params
    from thaw.engines.keras_setup import keras
    from thaw.heads import network as network_head

    head = params.load(ROOT / "params.yaml").head.model_copy(update={"kind": "network", "output": "sigmoid"})
    image = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    network = keras.Model(image, network_head.build((3,), 2, head)(pooled))
    described = metadata.describe(deployed_model.Description(("a", "b"), SIZE, "squash"), None)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, SIZE, SIZE, 3)).astype(np.float32)
    for name in ("tflite", "onnx"):
        source = ModelToExport(network, described)
        output = writing.export(FORMATS[name], source, tmp_path / FORMATS[name].path, lambda engine: engine(pixels))
        np.testing.assert_allclose(output, network(pixels), atol=1e-5)


# What is checked


def test_an_export_that_differs_is_not_kept_and_the_others_are(exported, call, monkeypatch, tmp_path):
    (tmp_path / "model.tflite").write_text("an older export")
    monkeypatch.setitem(FORMATS, "tflite", replace(FORMATS["tflite"], tolerance=-1.0))
    output, status, complaint = call("--format", "tflite", "saved_model", "--output", tmp_path)
    assert status == 1 and [row.split()[0] for row in output.splitlines()[2:]] == ["keras", "saved_model"]
    assert re.fullmatch(r"export: tflite is not written: its probabilities differ from Keras' by up to .*\n", complaint)
    assert listing(tmp_path) == ["model.tflite", *FILES["saved_model"]]
    assert (tmp_path / "model.tflite").read_text() == "an older export"


def test_probabilities_that_are_not_finite_numbers_are_refused_and_counted():
    finite, broken = np.float32([[0, 1]]), np.float32([[np.nan, 1]])
    with pytest.raises(ThawError, match=r"^1 of its 2 probabilities are not finite numbers"):
        checks.largest_difference(broken, finite, 1e-4)
    with pytest.raises(ThawError, match=r"^1 of Keras' own 2 probabilities are not finite numbers"):
        checks.largest_difference(finite, broken)


def test_the_table_says_on_how_many_photographs_each_format_is_checked():
    images = check_images.CheckImages(np.zeros((700, 1, 1, 3), np.uint8))
    int8, onnx = FORMATS["tflite-int8"], FORMATS["onnx"]
    assert table.checked_on([int8, onnx], images) == "200 photographs (tflite-int8 on 700)"
    assert table.checked_on([int8], images) == "700 photographs"
    assert table.checked_on([onnx], check_images.CheckImages(images.views[:1])) == "1 photograph"


def test_a_format_is_checked_on_the_images_that_the_table_counts():
    views = np.zeros((700, 1, 1, 3), np.uint8)
    reference = checks.Reference(check_images.CheckImages(views), confident([0] * 700), 1.0)
    calls = []

    def engine(pixels: np.ndarray) -> np.ndarray:
        calls.append(pixels)
        return confident([0])

    for name, count in (("onnx", 200), ("tflite-int8", 700)):
        calls.clear()
        result = reference.compare(FORMATS[name], engine)
        assert len(calls) == 1 + count and result.difference == 0  # the first call is not counted
        assert (result.note or "").count("100.0% of 700 photographs") == (name == "tflite-int8")


def confident(labels: list[int], classes: int = 2) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[labels] * 0.8 + 0.2 / classes


def test_8_bits_that_predict_well_are_measured_and_those_that_do_not_are_refused():
    truth = [0, 1] * 100
    labelled = check_images.CheckImages(
        np.zeros((200, 1, 1, 3), np.uint8), np.array(truth), np.ones(200), np.arange(200).astype(str)
    )
    unlabelled = check_images.CheckImages(labelled.views)
    keras, slips = confident(truth), confident([1, *truth[1:]])
    text = checks.compare_predictions(slips, keras, labelled)
    assert (
        text.startswith("the same prediction as Keras for 99.5% of 200 photographs") and "accuracy -0.5 points" in text
    )
    assert "accuracy" not in checks.compare_predictions(slips, keras, unlabelled)
    for photographs in (labelled, unlabelled):
        with pytest.raises(ThawError, match="8 bits are not enough"):
            checks.compare_predictions(confident([0] * 200), keras, photographs)


def pictures(views: np.ndarray) -> set[bytes]:
    return {view.tobytes() for view in views}


def test_8_bits_are_calibrated_on_training_photographs_and_checked_on_test_ones(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    description = deployed_model.Description(CLASSES, SIZE, "crop")
    calibration, photographs = check_images.from_split(export.RAW, export.SPLIT, description, True)
    paths = {part: [f"data/raw/images/cell{n:04}.png" for n in range(60) if n % 3 == rest]
             for rest, part in enumerate(tables.SPLITS)}  # fmt: skip
    expected = {part: pictures(check_images.read_names(paths[part], description, 60)[0].views) for part in paths}
    assert pictures(calibration) == expected["train"] and pictures(photographs.views) == expected["test"]
    again, _ = check_images.from_split(export.RAW, export.SPLIT, description, True)
    assert again.tobytes() == calibration.tobytes()


def test_an_extended_model_is_checked_on_photographs_without_a_new_class_too(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    description = deployed_model.Description(("a", CLASSES[0]), SIZE, "crop")
    split = pl.read_csv("data/split.csv")
    split = split.with_columns(label=pl.col("label").replace(dict.fromkeys(CLASSES[1:], "not new")))
    split.write_csv(checkout.parent / "extended.csv")
    monkeypatch.setattr(export, "SPLIT", checkout.parent / "extended.csv")
    calibration, photographs = check_images.from_split(export.RAW, export.SPLIT, description, True)
    assert len(calibration) == len(photographs.views) == 20
    assert photographs.labels is None


def test_photographs_of_the_user_calibrate_by_one_half_and_check_by_the_other(checkout):
    description = deployed_model.Description(CLASSES, SIZE, "crop")
    calibration, photographs, _ = check_images.from_names([str(checkout / "data/raw/images")], description, True)
    assert len(calibration) == len(photographs.views) == 30 and photographs.labels is None
    assert not pictures(calibration) & pictures(photographs.views)


def test_photographs_of_the_user_that_cannot_be_read_are_reported(checkout, call, tmp_path):
    (tmp_path / "text.jpg").write_text("no photograph")
    names = [tmp_path / "text.jpg", checkout / "data/raw/images/cell0001.png"]
    output, status, complaints = call("--format", "openvino", "--output", tmp_path / "out", "--photographs", *names)
    assert status == 0 and "checked on 1 photograph;" in output
    assert complaints == f"export: {tmp_path}/text.jpg: not an image that can be read\n"
    description = deployed_model.Description(CLASSES, SIZE, "crop")
    with pytest.raises(ThawError, match=r"no photograph to check with: .*text.jpg: not an image"):
        check_images.from_names([str(tmp_path)], description, True)
    with pytest.raises(ThawError, match="one photograph is not enough"):
        check_images.from_names([str(names[1])], description, True)


def test_without_data_the_error_says_how_to_name_photographs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ThawError, match=r"data/split.csv is missing; name some with --photographs, or run `dvc pull"):
        check_images.from_split(export.RAW, export.SPLIT, deployed_model.Description(CLASSES, SIZE, "crop"), True)


def test_a_photograph_that_is_no_longer_there_is_one_line(checkout, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(checkout / "data/raw", raw)
    gone = pl.read_csv(checkout / "data/split.csv").filter(split="test")["image_id"][0]
    pl.read_csv(raw / "images.csv").filter(pl.col("image_id") != gone).write_csv(raw / "images.csv")
    description = deployed_model.Description(CLASSES, SIZE, "crop")
    with pytest.raises(ThawError, match=f"{gone}, which is not among the photographs"):
        check_images.read_split(raw, checkout / "data/split.csv", "test", description, 100)


def test_with_folds_the_photographs_that_check_do_not_calibrate_and_are_known_to_be_trained_on(checkout, tmp_path):
    raw, split = checkout / "data/raw", checkout / "data/split.csv"
    description = deployed_model.Description(CLASSES, SIZE, "crop")
    assert not check_images.read_split(raw, split, "test", description, 100).trained
    folds = pl.read_csv(split).with_columns(split=pl.lit("train"), fold=pl.int_range(pl.len()) % 5)
    folds.write_csv(tmp_path / "split.csv")
    calibration, checked = check_images.from_split(raw, tmp_path / "split.csv", description, True)
    assert (len(calibration), len(checked), checked.trained) == (30, 30, True)  # not the 12 of one fold
    assert not (checked.views[:, None] == calibration[None]).all(axis=(2, 3, 4)).any()


def test_photographs_of_other_classes_are_refused(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    with pytest.raises(ThawError, match="which the model does not know"):
        description = deployed_model.Description(("cat", *CLASSES[1:]), SIZE, "crop")
        check_images.from_split(export.RAW, export.SPLIT, description, True)


# What is wrong


def refused(call, *arguments: object) -> str:
    """The one line of an error, after which nothing was written."""
    output, status, complaint = call(*arguments)
    assert not output and (complaint + (status if isinstance(status, str) else "")).count("\n") <= 1
    assert status not in (0, 2)
    return str(status)


def test_a_model_that_is_missing_or_none_of_thaws_is_one_line(call, network, tmp_path):
    from thaw.engines import model_files

    (tmp_path / "text.keras").write_text("text")
    model_files.save(network, tmp_path / "backbone.keras", {"cut": None})
    image = {"size": SIZE, "resize": "crop"}
    model_files.save(network, tmp_path / "other.keras", {"class_names": [*CLASSES, "d"], "image": image})
    with zipfile.ZipFile(tmp_path / "bare.keras", "w") as file:
        file.writestr("metadata.json", json.dumps({"class_names": CLASSES, "image": image}))
    lines = {
        name: refused(call, "--format", "onnx", "--model", tmp_path / f"{name}.keras", "--output", tmp_path / "out")
        for name in ("missing", "text", "backbone", "other", "bare")
    }
    assert "is missing: run `dvc repro`" in lines["missing"]
    assert "not a model of Thaw's" in lines["text"] and "not a model of Thaw's" in lines["bare"]
    assert "not a classifier of Thaw's (it has no class_names)" in lines["backbone"]
    assert "not a classifier of Thaw's (it does not return 4 probabilities)" in lines["other"]
    assert listing(tmp_path) == ["backbone.keras", "bare.keras", "other.keras", "text.keras"]


def test_a_folder_that_cannot_be_written_is_one_line_before_any_work(call, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/below", Path("/proc/exports")):
        assert "see --output" in refused(call, "--format", "onnx", "--output", folder)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "Permission denied: see --output" in refused(call, "--format", "onnx", "--output", tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_leaves_nothing(network, tmp_path, name):
    described = metadata.describe(deployed_model.Description(CLASSES, SIZE, "crop"), None)
    source = ModelToExport(network, described, np.zeros((1, SIZE, SIZE, 3), np.uint8))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        openvino = name == "openvino"  # its writer does not say why it failed
        with pytest.raises(ThawError if openvino else OSError, match="the disk full" if openvino else "File too large"):
            writing.export(FORMATS[name], source, tmp_path / FORMATS[name].path, lambda engine: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_network_that_a_converter_refuses_is_one_line(network, tmp_path):
    def refuse(*_) -> None:
        raise NotImplementedError("no such\nstep")

    form = replace(FORMATS["onnx"], write=refuse)
    with pytest.raises(ThawError, match=r"cannot be written in this format \(NotImplementedError: no such step\)"):
        writing.export(form, ModelToExport(network, {}), tmp_path / "model.onnx", lambda engine: None)


def test_a_new_format_needs_only_its_registration(call, network, tmp_path, monkeypatch):
    def write(source: ModelToExport, path: Path) -> None:
        source.model.save(tmp_path / "weights.keras")
        path.write_text(json.dumps(source.metadata))

    def load(path: Path) -> Engine:
        return lambda pixels: network(pixels, training=False).numpy()

    monkeypatch.setitem(FORMATS, "plain", Format("plain", "model.json", "a format of this test", write, load))
    output, status, complaints = call("--format", "plain", "--output", tmp_path / "out")
    assert (status, complaints) == (0, "") and output.splitlines()[-1].split()[:2] == ["plain", "model.json"]
    assert json.loads((tmp_path / "out/model.json").read_text())["class_names"] == list(CLASSES)
    assert "plain           a format of this test: model.json" in call("--help")[0]
    assert call("--format", "plane")[1] == 2


def test_a_wrong_format_has_the_nearest_ones_and_no_tensorflow_is_imported(checkout):
    shown = "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    code = f"import sys, export\ntry:\n  export.main()\nfinally:\n  {shown}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    for arguments, status, message in (
        (["tflight"], 2, "there is no 'tflight' (did you mean tflite"),
        (["onnx", "-h"], 0, ""),
    ):
        process = subprocess.run([sys.executable, "-c", code, "--format", *arguments], cwd=checkout,
                                 capture_output=True, text=True, env=environment)  # fmt: skip
        assert process.returncode == status and message in process.stderr
        assert process.stdout.endswith("[]\n")
        assert status or all(name in process.stdout for name in FORMATS)


# Used without Thaw


def blocks() -> dict[str, str]:
    """The guide's Python, by the engine that it uses."""
    texts = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/guides/export.md").read_text(encoding="utf-8"), re.S | re.M
    )
    return {next(name for name in ("litert", "onnxruntime", "keras") if name in text): text for text in texts}


@pytest.mark.parametrize("engine", ["keras", "litert", "onnxruntime"])
def test_the_lines_in_the_guide_predict_as_predict_does(exported, checkout, call, engine):
    text = blocks()[engine]
    assert len(text.splitlines()) <= 12 and "thaw" not in text
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    printed = subprocess.run([sys.executable, "-c", text], cwd=checkout, capture_output=True, text=True,
                             env=environment, check=True).stdout  # fmt: skip
    label, probability = printed.strip().rsplit(" ", 1)
    photograph = "data/raw/images/cell0001.png"
    assert photograph in text
    output, _, _ = call(photograph, "--json", "--cache", checkout / "cache", main=predict.main)
    prediction = json.loads(output)
    odds = np.array(list(prediction["probabilities"].values())) ** TEMPERATURE  # predict's are calibrated
    assert label == prediction["label"]
    assert float(probability) == pytest.approx(odds.max() / odds.sum(), abs=5e-3)
