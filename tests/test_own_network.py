"""A network from a file of one's own is a frozen backbone: its features are those of the file, in every format; what
cannot serve says why in one line; and the whole pipeline runs on it."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from conftest import SMALL, make_source
from dependencies import ROOT

from thaw.backbones import artifact, building
from thaw.backbones.cut_points import FEATURES
from thaw.core import params, weight_files
from thaw.core.errors import ThawError
from thaw.engines import inference, model_files
from thaw.engines.keras_setup import keras
from thaw.engines.keras_to_openvino import convert
from thaw.engines.openvino_setup import ov
from thaw.evaluation import class_activation
from thaw.exports.base import ModelToExport
from thaw.features import extraction
from thaw.heads import extended
from thaw.heads.extended import read_old_head
from thaw.heads.linear import LinearHead
from thaw.parameters.backbone import Backbone
from thaw.parameters.image import Image

SIZE, CHANNELS = 24, 8
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
CLIP = [[0.48, 0.46, 0.41], [0.27, 0.26, 0.28]]
SCALED = {  # what a network gets for RGB pixels 0-255
    "0-255": lambda pixels: pixels,
    "0-1": lambda pixels: pixels / 255,
    "-1-1": lambda pixels: pixels / 127.5 - 1,
    "imagenet": lambda pixels: (pixels / 255 - MEAN) / DEVIATION,
    "CLIP": lambda pixels: (pixels / 255 - CLIP[0]) / CLIP[1],
}
steps = ov.opset13


def kernels(channels: int = CHANNELS) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.2, (channels, 3, 5, 5)).astype(np.float32)


def tensor(node, name: str):
    node.output(0).set_names({name})
    return node


def draw(
    path: Path, returns: str = "features", shape=(-1, 3, -1, -1), dtype=np.float32, kernel: np.ndarray | None = None
) -> Path:
    """Write a network in `.xml`: a strided convolution whose map is returned, averaged, or returned as tokens.

    `shape` of the input; with the colours last, a map is returned so, too. `returns` may name several, with commas.
    """
    channels_last = shape[1] != 3
    image = tensor(steps.parameter(list(shape), dtype), "pixels")
    x = steps.convert(image, "f32") if dtype != np.float32 else image
    x = steps.transpose(x, np.array([0, 3, 1, 2])) if channels_last else x
    x = steps.convolution(x, kernels() if kernel is None else kernel, [2, 2], [2, 2], [2, 2], [1, 1])
    inner = tensor(steps.relu(x), "inner")
    flat = steps.transpose(steps.reshape(inner, [0, 0, -1], special_zero=True), np.array([0, 2, 1]))
    ends = {
        "map": steps.transpose(inner, np.array([0, 2, 3, 1])) if channels_last else steps.add(inner, np.float32(0)),
        "features": steps.reduce_mean(inner, np.array([2, 3])),
        "tokens": flat,
        "flat": steps.reshape(inner, [0, -1], special_zero=True),
        "one": steps.reshape(inner, [1, -1], special_zero=False),
        "five": steps.unsqueeze(inner, np.array([1])),
        "mask": steps.greater(inner, np.float32(0)),
        "number": steps.reduce_mean(inner, np.arange(4)),
        "numbers": steps.convert(steps.reduce_mean(inner, np.array([2, 3])), "i64"),
    }
    outputs = [tensor(ends[name], name) for name in returns.split(",")]
    ov.save_model(ov.Model(outputs, [image], "drawn"), path, compress_to_fp16=False)
    return path


def pixels(count: int = 2, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, size, size, 3), np.uint8)


def in_the_file(path: Path, output: str, scaled: np.ndarray) -> np.ndarray:
    """What the network of a file itself returns for (n, h, w, 3) scaled pixels."""
    network = ov.Core().read_model(path)
    shape = network.input().get_partial_shape()
    channels_last = shape[3].is_static and shape[3].get_length() == 3
    x = scaled.astype(np.float32)
    compiled = ov.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(x if channels_last else np.ascontiguousarray(x.transpose(0, 3, 1, 2)))[output]


def section(path: Path, **changes) -> Backbone:
    values = {"name": "own", "weights": str(path), "preprocess": "0-255", "top": False, "cut": None, "pooling": "avg"}
    values |= {"seed": 1}
    return Backbone(**values | changes)


def features(path: Path, folder: Path, images: np.ndarray | None = None, **changes) -> np.ndarray:
    """The features of the backbone that is made of a file, on OpenVINO as the pipeline computes them."""
    images = pixels() if images is None else images
    folder.mkdir(exist_ok=True)
    artifact.write(section(path, **changes), folder)
    run = inference.compile_openvino(folder / "backbone.xml", FEATURES, images.shape[1], np.float32)
    return np.concatenate(list(run(inference.rebatch([images]))))


def refused(path: Path, **changes) -> str:
    with pytest.raises(ThawError) as caught:
        values = {"cut": None, "pooling": "avg", "preprocess": "0-255"} | changes
        building.build("own", str(path), 1, **values)
    text = str(caught.value)
    assert "\n" not in text and path.name in text
    return text


# --- What comes out ---


def test_the_onnx_export_of_a_network_is_a_backbone_with_the_features_of_this_network(tmp_path):
    from thaw.exports import onnx_file

    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 128, -1.0)(image)
    x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="swish")(x)
    x = keras.layers.BatchNormalization()(keras.layers.DepthwiseConv2D(3, padding="same")(x))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(12, 1)(x)))
    onnx_file.write(ModelToExport(model, {"image": {"size": SIZE}, "class_names": []}), tmp_path / "net.onnx")
    expected = np.asarray(model(pixels().astype(np.float32)))
    np.testing.assert_allclose(features(tmp_path / "net.onnx", tmp_path / "out"), expected, rtol=1e-5, atol=1e-5)


def export_classifier(path: Path, classes: int, activation: str | None) -> keras.Model:
    from thaw.exports import onnx_file

    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(8, 3, 2, activation="relu")(keras.layers.Rescaling(1 / 128, -1.0)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(classes, activation=activation, bias_initializer="normal")(x)
    onnx_file.write(ModelToExport(keras.Model(image, x), {"image": {"size": SIZE}, "class_names": []}), path)
    return keras.Model(image, x)


@pytest.mark.parametrize("activation", ["softmax", None])
def test_a_file_whose_outputs_are_the_classes_of_imagenet_can_be_extended(tmp_path, activation):
    model = export_classifier(tmp_path / "net.onnx", 1000, activation)
    outputs = np.asarray(model(pixels().astype(np.float32)), float)
    expected = outputs if activation else np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    x = features(tmp_path / "net.onnx", tmp_path / "out", top=True)
    old_head = extended.read_old_head(True, tmp_path / "out")
    assert old_head.classes[0] == "tench"
    np.testing.assert_allclose(old_head.probabilities(x), expected, rtol=1e-4)
    run = inference.compile_openvino(tmp_path / "out/backbone.xml", "predictions", SIZE, np.float32)
    np.testing.assert_allclose(next(run([pixels()])), expected, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "beta": 2.0}, {"transB": 1}], ids=str)
@pytest.mark.parametrize("one_bias", [False, True])
def test_the_gemm_with_which_pytorch_ends_a_network_is_a_dense_layer(tmp_path, options, one_bias):
    generator = np.random.default_rng(5)
    kernel = generator.normal(0, 1, (1000, 3) if "transB" in options else (3, 1000)).astype(np.float32)
    bias = generator.normal(0, 1, 1 if one_bias else 1000).astype(np.float32)
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["image"], ["map"]),
        onnx.helper.make_node("Flatten", ["map"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "kernel", "bias"], ["logits"], **options),
    ]
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, SIZE, SIZE])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 1000])
    constants = [onnx.numpy_helper.from_array(kernel, "kernel"), onnx.numpy_helper.from_array(bias, "bias")]
    graph = onnx.helper.make_graph(nodes, "net", [image], [logits], constants)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    features(tmp_path / "net.onnx", tmp_path / "out", top=True, preprocess="0-1")
    run = inference.compile_openvino(tmp_path / "out/backbone.xml", "predictions", SIZE, np.float32)
    x = pixels().astype(np.float32).mean(axis=(1, 2)) / 255
    outputs = options.get("alpha", 1) * (x @ (kernel.T if "transB" in options else kernel))
    outputs = outputs + options.get("beta", 1) * bias
    expected = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(next(run([pixels()])), expected, rtol=1e-4)


def test_a_file_with_other_classes_or_without_a_dense_layer_keeps_no_top(tmp_path):
    export_classifier(tmp_path / "net.onnx", 12, "softmax")
    assert "has 12 classes, and only the names of the 1,000 of ImageNet" in refused(tmp_path / "net.onnx", top=True)
    assert "does not end in a dense layer" in refused(draw(tmp_path / "net.xml"), top=True)


@pytest.mark.parametrize("preprocess", SCALED)
def test_a_network_gets_its_pixels_scaled_as_it_is_said(tmp_path, preprocess):
    path = draw(tmp_path / "net.xml")
    expected = in_the_file(path, "features", SCALED[preprocess](pixels()))
    value = CLIP if preprocess == "CLIP" else preprocess
    np.testing.assert_allclose(features(path, tmp_path / "out", preprocess=value), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(-1, 3, -1, -1), (-1, -1, -1, 3), (-1, 3, SIZE, SIZE), (-1, SIZE, SIZE, 3)])
@pytest.mark.parametrize(("pooling", "reduce"), [("avg", np.mean), ("max", np.max), (None, None)])
def test_a_map_is_pooled_or_not_wherever_its_channels_are(tmp_path, shape, pooling, reduce):
    path = draw(tmp_path / "net.xml", "map", shape)
    expected = in_the_file(path, "map", pixels())
    expected = expected if shape[3] == 3 else expected.transpose(0, 2, 3, 1)
    expected = reduce(expected, axis=(1, 2)) if reduce else expected
    np.testing.assert_allclose(features(path, tmp_path / "out", pooling=pooling), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("pooling", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_tokens_are_pooled_over_all_of_them(tmp_path, pooling, reduce):
    path = draw(tmp_path / "net.xml", "tokens")
    expected = reduce(in_the_file(path, "tokens", pixels()), axis=1)
    np.testing.assert_allclose(features(path, tmp_path / "out", pooling=pooling), expected, rtol=1e-5, atol=1e-4)
    about = json.loads((tmp_path / "out/backbone.json").read_text())["own_network"]
    assert f"is 12544 tokens, (n, 12544, 8), which are all pooled, backbone.pooling: {pooling}" in about


@pytest.mark.parametrize("pooling", ["cls", "cls_avg"])
def test_the_first_token_is_the_class_token(tmp_path, pooling):
    path = draw(tmp_path / "net.xml", "tokens")
    tokens = in_the_file(path, "tokens", pixels())
    expected = tokens[:, 0] if pooling == "cls" else np.hstack([tokens[:, 0], tokens[:, 1:].mean(axis=1)])
    np.testing.assert_allclose(features(path, tmp_path / "out", pooling=pooling), expected, rtol=1e-5, atol=1e-4)
    about = json.loads((tmp_path / "out/backbone.json").read_text())["own_network"]
    assert f"of which the first is the class token, backbone.pooling: {pooling}" in about


def test_a_map_has_no_class_token(tmp_path):
    with pytest.raises(ThawError, match=r"has no class token: set backbone\.pooling to avg or max"):
        features(draw(tmp_path / "net.xml", "map"), tmp_path / "out", pooling="cls")


@pytest.mark.parametrize("cut", ["features", "map", "inner"])
def test_cut_names_one_of_several_outputs_or_a_tensor_within(tmp_path, cut):
    path = draw(tmp_path / "net.xml", "features,map")
    expected = in_the_file(path, "features", pixels())
    np.testing.assert_allclose(features(path, tmp_path / "out", cut=cut), expected, rtol=1e-5, atol=1e-4)


def test_an_onnx_file_gives_what_onnx_runtime_computes(tmp_path):
    import onnxruntime

    path = save_onnx(tmp_path / "net.onnx")
    x = np.ascontiguousarray(SCALED["imagenet"](pixels()).transpose(0, 3, 1, 2)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(["features"], {"pixels": x})
    np.testing.assert_allclose(features(path, tmp_path / "out", preprocess="imagenet"), expected, rtol=1e-4, atol=1e-5)


def test_a_network_of_whole_numbers_gets_pixels(tmp_path):
    path = draw(tmp_path / "net.xml", dtype=np.uint8)
    expected = in_the_file(draw(tmp_path / "float.xml"), "features", pixels())
    np.testing.assert_allclose(features(path, tmp_path / "out"), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("half", ["weights", "all"])
def test_a_network_in_float16_serves(tmp_path, half):
    path = draw(tmp_path / "net.xml", dtype=np.float16 if half == "all" else np.float32)
    network = ov.Core().read_model(path)
    ov.save_model(network, tmp_path / "half.xml", compress_to_fp16=True)
    expected = in_the_file(draw(tmp_path / "float.xml"), "features", pixels())
    np.testing.assert_allclose(features(tmp_path / "half.xml", tmp_path / "out"), expected, rtol=5e-3, atol=0.05)


def test_a_quantised_network_serves(tmp_path):
    image = tensor(steps.parameter([-1, 3, -1, -1], np.float32), "pixels")
    limits = [np.float32(0), np.float32(255), np.float32(0), np.float32(255)]
    x = steps.fake_quantize(image, *limits, levels=256)
    kernel = steps.fake_quantize(kernels(), *[np.float32(v) for v in (-1, 1, -1, 1)], levels=255)
    x = steps.reduce_mean(steps.relu(steps.convolution(x, kernel, [2, 2], [2, 2], [2, 2], [1, 1])), np.array([2, 3]))
    ov.save_model(ov.Model([tensor(x, "features")], [image], "eight"), tmp_path / "net.xml", compress_to_fp16=False)
    expected = in_the_file(draw(tmp_path / "float.xml"), "features", pixels())
    np.testing.assert_allclose(features(tmp_path / "net.xml", tmp_path / "out"), expected, rtol=0.1, atol=1)


def test_a_network_that_names_no_side_has_the_order_of_pytorch(tmp_path):
    node = onnx.helper.make_node("GlobalAveragePool", ["image"], ["features"])
    sides = ["batch", "channels", "height", "width"]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sides) for name in ("image", "features")]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "net", ends[:1], ends[1:]), opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    onnx.save(model, tmp_path / "net.onnx")
    found = features(tmp_path / "net.onnx", tmp_path / "out")
    np.testing.assert_allclose(found, pixels().astype(np.float32).mean(axis=(1, 2)), rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_made_free_where_the_network_allows_it(tmp_path, batch):
    path = draw(tmp_path / "net.xml", shape=(batch, 3, SIZE, SIZE))
    expected = in_the_file(draw(tmp_path / "free.xml"), "features", pixels(3))
    np.testing.assert_allclose(features(path, tmp_path / "out", pixels(3)), expected, rtol=1e-5, atol=1e-4)


def test_a_file_that_only_says_any_size_has_the_one_that_works(tmp_path):
    """As with positions that are learned for one size."""
    image = tensor(steps.parameter([-1, 3, -1, -1], np.float32), "pixels")
    x = steps.add(steps.relu(image), np.full((1, 1, 384, 384), 2, np.float32))
    x = tensor(steps.reduce_max(x, np.array([2, 3])), "features")
    ov.save_model(ov.Model([x], [image], "sized"), tmp_path / "net.xml", compress_to_fp16=False)
    model, _ = building.build("own", str(tmp_path / "net.xml"), 1, preprocess="0-255")
    assert model.input.shape == (None, 384, 384, 3)


def test_features_that_depend_on_the_size_fix_it(tmp_path):
    model, _ = building.build("own", str(draw(tmp_path / "net.xml", "flat")), 1, preprocess="0-255")
    assert model.input.shape == (None, 224, 224, 3) and model.output.shape == (None, 112 * 112 * CHANNELS)


def test_a_size_that_the_network_cannot_take_is_one_line(tmp_path):
    """Here the even rows are added to the odd ones: their numbers have to be the same."""
    image = tensor(steps.parameter([-1, 3, -1, -1], np.float32), "pixels")
    even, odd = (
        steps.strided_slice(image, [0, 0, i, 0], [0] * 4, [1, 1, 2, 1], [1, 1, 0, 1], [1] * 4) for i in range(2)
    )
    x = tensor(steps.reduce_mean(steps.add(even, odd), np.array([2, 3])), "features")
    ov.save_model(ov.Model([x], [image], "even"), tmp_path / "net.xml", compress_to_fp16=False)
    assert features(tmp_path / "net.xml", tmp_path / "out").shape == (2, 3)
    with pytest.raises(ThawError, match="takes no images of 25 pixels, set image"):
        inference.output_shapes(tmp_path / "out/backbone.xml", [FEATURES], 25)


def test_two_networks_whose_tensors_have_the_names_of_the_pipeline_are_told_apart(tmp_path):
    """Within a file, `image` and `features` may be anything."""
    image = tensor(steps.parameter([-1, 3, -1, -1], np.float32), "features")
    x = tensor(steps.convolution(image, kernels(), [2, 2], [2, 2], [2, 2], [1, 1]), "image")
    x = tensor(steps.reduce_mean(steps.relu(x), np.array([2, 3])), "predictions")
    ov.save_model(ov.Model([x], [image], "named"), tmp_path / "net.xml", compress_to_fp16=False)
    expected = in_the_file(draw(tmp_path / "plain.xml"), "features", pixels())
    np.testing.assert_allclose(features(tmp_path / "net.xml", tmp_path / "out"), expected, rtol=1e-5, atol=1e-4)


# --- In Keras ---


@pytest.fixture
def backbone(tmp_path) -> keras.Model:
    model, _ = building.build("own", str(draw(tmp_path / "net.xml", "map")), 1, preprocess="imagenet")
    return model


def drawn_head() -> LinearHead:
    generator = np.random.default_rng(5)
    return LinearHead(generator.normal(size=(CHANNELS, 2)).astype(np.float32), np.float32([0.1, -0.2]), ("a", "b"), 1.0)


def test_keras_computes_what_the_engine_does_before_and_after_it_is_saved(backbone, tmp_path):
    model = drawn_head().attach(backbone, FEATURES)
    expected = np.asarray(model(pixels().astype(np.float32)))
    model_files.save(model, tmp_path / "model.keras", {})
    loaded, _ = model_files.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(pixels().astype(np.float32))), expected)
    compiled = ov.compile_model(convert(loaded), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(pixels().astype(np.float32))[0], expected, rtol=1e-5, atol=1e-5)


def test_a_graph_of_tensorflow_computes_it_in_threads_that_take_tiny_numbers_as_0(tmp_path):
    """PyTorch's `expand(n, -1, -1)` is such a graph: 1 and -1 as float32 are tiny, and no number."""
    from thaw.engines.tensorflow_setup import tf

    image = tensor(steps.parameter([-1, 3, -1, -1], np.float32), "pixels")
    count = steps.gather(steps.shape_of(image), np.array([0]), np.int64(0))
    target = steps.concat([count, np.array([-1, -1])], axis=0)
    ones = steps.broadcast(np.int64(1), steps.shape_of(target))
    target = steps.select(steps.equal(target, steps.multiply(ones, np.int64(-1))), ones, target)
    token = steps.broadcast(np.ones((1, 1, 3), np.float32), target, broadcast_spec="BIDIRECTIONAL")
    mean = steps.unsqueeze(steps.reduce_mean(image, np.array([2, 3])), np.array([1]))
    x = tensor(steps.concat([token, mean], axis=1), "tokens")
    ov.save_model(ov.Model([x], [image], "expanded"), tmp_path / "net.xml", compress_to_fp16=False)
    model, _ = building.build("own", str(tmp_path / "net.xml"), 1, preprocess="0-255")
    compiled = tf.function(lambda x: model(x, training=False))
    expected = (1 + pixels().mean(axis=(1, 2))) / 2
    np.testing.assert_allclose(compiled(tf.constant(pixels(), tf.float32)).numpy(), expected, rtol=1e-4)


def test_the_file_is_complete_and_the_same_network_is_the_same_bytes(tmp_path):
    path = draw(tmp_path / "net.xml")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        artifact.write(section(path), tmp_path / folder)
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    with zipfile.ZipFile(tmp_path / "one/backbone.keras") as file:
        assert sum(name.endswith(("network.xml", "network.bin")) for name in file.namelist()) == 2
    shutil.move(path, tmp_path / "gone.xml")
    assert model_files.load(tmp_path / "one/backbone.keras")[0].output.shape == (None, CHANNELS)


def test_maps_of_where_it_looked_are_exact_where_its_map_is_averaged(backbone):
    model = drawn_head().attach(backbone, FEATURES)
    assert class_activation.map_input(model, FEATURES) is None
    ones, zeros = np.ones(2, int), np.zeros(2, int)
    maps = class_activation.activation_maps(model, None, pixels(), zeros, ones)
    logits = np.log(np.asarray(model(pixels().astype(np.float32))))
    np.testing.assert_allclose(maps.mean(axis=(1, 2)) + 0.3, logits[:, 0] - logits[:, 1], rtol=1e-3, atol=1e-3)


def test_there_are_none_where_the_file_averages_it(tmp_path):
    model, _ = building.build("own", str(draw(tmp_path / "net.xml")), 1, preprocess="0-1")
    assert class_activation.averaged_map(drawn_head().attach(model, FEATURES)) is None


def test_a_model_on_another_network_is_not_extended(backbone, tmp_path):
    model = drawn_head().attach(backbone, FEATURES)
    model_files.save(model, tmp_path / "model.keras", {"class_names": ["a", "b"]})
    for folder, kernel in (("same", None), ("other", -kernels())):
        (tmp_path / folder).mkdir()
        path = draw(tmp_path / folder / "net.xml", "map", kernel=kernel)
        artifact.write(section(path, preprocess="imagenet"), tmp_path / folder)
    assert read_old_head(str(tmp_path / "model.keras"), tmp_path / "same").classes == ("a", "b")
    with pytest.raises(ThawError, match="is of another backbone: its network is from another file"):
        read_old_head(str(tmp_path / "model.keras"), tmp_path / "other")


def test_the_table_of_costs_has_the_features_alone_and_refuses_another_size(tmp_path):
    from thaw.backbones.cost_table import cost_table

    path = draw(tmp_path / "net.xml", shape=(-1, 3, SIZE, SIZE))
    size, table = cost_table(section(path), None)
    assert size == SIZE and table["layer"].to_list() == [FEATURES]
    assert table["multiply_adds_before"].to_list() == [12 * 12 * CHANNELS * 3 * 25]
    assert table["parameters_before"].to_list() == [CHANNELS * 3 * 25]
    assert table["output_bytes"].to_list() == [2 * CHANNELS] and table["training_seconds"].to_list() == [0]
    with pytest.raises(ThawError, match=f"--size should be {SIZE}"):
        cost_table(section(path), 64)


# --- What does not serve ---


def test_two_inputs_are_named(tmp_path):
    ends = [tensor(steps.parameter([-1, 3, 8, 8], np.float32), name) for name in ("pixels", "mask")]
    ov.save_model(ov.Model([tensor(steps.add(*ends), "sum")], ends, "two"), tmp_path / "net.xml")
    assert "has 2 inputs (pixels, mask): a backbone takes images alone" in refused(tmp_path / "net.xml")


def test_several_outputs_are_named(tmp_path):
    path = draw(tmp_path / "net.xml", "features,map")
    assert "has 2 outputs: set backbone.cut to one of features, map" in refused(path)


def test_an_unknown_cut_comes_with_the_nearest(tmp_path):
    path = draw(tmp_path / "net.xml", "features,map")
    assert "has no tensor 'feature', which backbone.cut names (did you mean features" in refused(path, cut="feature")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((-1, 1, 8, 8), "takes (?, 1, 8, 8), which are no images in colour"),
        ((-1, 3, 8, 16), "takes images of (?, 3, 8, 16): they should be square"),
        ((-1, 3, 8), "takes (?, 3, 8), which are no images in colour"),
    ],
)
def test_an_input_that_is_no_square_image_in_colour_is_refused(tmp_path, shape, message):
    image = tensor(steps.parameter(list(shape), np.float32), "pixels")
    ov.save_model(ov.Model([tensor(steps.relu(image), "same")], [image], "input"), tmp_path / "net.xml")
    assert message in refused(tmp_path / "net.xml")


def test_a_network_of_whole_numbers_takes_no_scaled_pixels(tmp_path):
    path = draw(tmp_path / "net.xml", dtype=np.uint8)
    assert "takes whole numbers: set backbone.preprocess to 0-255" in refused(path, preprocess="0-1")
    path = draw(tmp_path / "long.xml", dtype=np.int64)
    assert "takes i64: a backbone takes float32 or uint8" in refused(path)


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ("five", "returns (n, 1, 8, 112, 112), neither features, tokens nor square maps"),
        ("numbers", "returns i64 in numbers, and no features"),
        ("one", "does not compute each image by itself: export it for inference and for a batch of any size"),
        ("mask", "returns boolean in mask, and no features"),
        ("number", "cannot be computed: zero-dimensional arrays"),
    ],
)
def test_an_output_that_is_no_features_is_refused(tmp_path, returns, message):
    assert message in refused(draw(tmp_path / "net.xml", returns))


def test_a_batch_that_is_fixed_inside_the_network_says_how_to_export_it(tmp_path):
    path = draw(tmp_path / "net.xml", "one", shape=(1, 3, SIZE, SIZE))
    assert "does not compute each image by itself, but 1 together: export it for inference" in refused(path)


def test_tokens_that_nothing_pools_are_refused(tmp_path):
    path = draw(tmp_path / "net.xml", "tokens")
    assert "returns tokens (n, 12544, 8): set backbone.pooling to avg or max" in refused(path, pooling=None)


def save_onnx(path: Path, operation: str = "Relu", **options) -> Path:
    ends = [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])]
    ends += [onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", CHANNELS])]
    nodes = [
        onnx.helper.make_node("Conv", ["pixels", "kernel"], ["a"], strides=[2, 2], pads=[2, 2, 2, 2]),
        onnx.helper.make_node(operation, ["a"], ["b"]),
        onnx.helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        onnx.helper.make_node("Flatten", ["c"], ["features"]),
    ]
    numbers = [onnx.numpy_helper.from_array(kernels(), "kernel")]
    graph = onnx.helper.make_graph(nodes, "net", ends[:1], ends[1:], numbers)
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path, **options)
    return path


def test_an_operation_that_openvino_does_not_know_is_named(tmp_path):
    path = save_onnx(tmp_path / "net.onnx", "Frobnicate")
    assert "cannot be read: No conversion rule found for operations: Frobnicate" in refused(path)


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
@pytest.mark.parametrize("content", ["empty", "text", "half"])
def test_a_damaged_file_is_one_line(tmp_path, capfd, ending, content):
    path = save_onnx(tmp_path / "net.onnx") if ending == ".onnx" else draw(tmp_path / "net.xml")
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"hello", "half": data[: len(data) // 2]}[content])
    assert "cannot be read: " in refused(path)
    assert not capfd.readouterr().err


def test_numbers_that_are_cut_off_are_one_line(tmp_path):
    path = draw(tmp_path / "net.xml")
    path.with_suffix(".bin").write_bytes(b"12")
    assert "cannot be read: Incorrect weights in bin file!" in refused(path)


# --- Its files ---


@pytest.fixture(params=[".onnx", ".xml"])
def two_files(request, tmp_path) -> tuple[Path, Path]:
    """A network in two files."""
    if request.param == ".xml":
        return draw(tmp_path / "net.xml"), tmp_path / "net.bin"
    external = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    return save_onnx(tmp_path / "net.onnx", **external), tmp_path / "net.data"


def test_a_network_in_two_files_is_read_from_both(two_files, tmp_path):
    one = save_onnx(tmp_path / "one.onnx")
    expected = in_the_file(one, "features", pixels())
    np.testing.assert_allclose(features(two_files[0], tmp_path / "out"), expected, rtol=1e-5, atol=1e-4)


def test_the_hash_is_that_of_both_files(two_files):
    path, numbers = two_files
    before = weight_files.sha256(path)
    assert weight_files.sha256(path) == before
    content = bytearray(numbers.read_bytes())
    content[5] ^= 1
    numbers.write_bytes(content)
    assert weight_files.sha256(path) != before


def test_a_file_that_is_missing_beside_it_is_named(two_files):
    path, numbers = two_files
    numbers.unlink()
    assert f"there is no file {numbers}, which {path.name} needs" in refused(path)


def test_a_missing_network_is_one_line(tmp_path):
    assert f"backbone.weights: there is no file {tmp_path}/net.onnx" in refused(tmp_path / "net.onnx")


# --- Parameters ---

OWN = {
    "backbone.name": "own", "backbone.weights": "net.onnx", "backbone.preprocess": "imagenet",
    "fine_tune.freeze_depth": "all",
}  # fmt: skip


def parsed(changes: dict):
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        name, part = key.split(".")
        values[name][part] = value
    return params.parse(yaml.safe_dump(values), "params.yaml")


@pytest.mark.parametrize("value", ["0-255", "0-1", "-1-1", "imagenet", CLIP])
def test_every_scaling_of_pixels_is_valid(value):
    assert parsed(OWN | {"backbone.preprocess": value}).backbone.preprocess == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone.weights": "imagenet"}, "name: own needs a network in backbone.weights, a file that ends in .onnx"),
        ({"backbone.weights": None}, "or .xml, not null"),
        ({"backbone.name": "ResNet50"}, "net.onnx is a whole network: set backbone.name to own"),
        ({"backbone.preprocess": None}, "needs backbone.preprocess, how the network was given its pixels: 0-255"),
        ({"backbone.preprocess": "0-2"}, "backbone.preprocess should be null, 0-255, 0-1, -1-1, imagenet, or"),
        ({"backbone.preprocess": [[0, 0, 0], [1, 1, 0]]}, "not [[0, 0, 0], [1, 1, 0]]"),
        ({"backbone.preprocess": [0.5, 0.5]}, "not [0.5, 0.5]"),
        (
            {"backbone.preprocess": [[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]]},
            "are of pixels 0-1, not [[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]]: of pixels 0-255, divide them "
            "by 255, which gives [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]",
        ),
        ({"fine_tune.freeze_depth": "block5"}, "should be all, not 'block5': backbone.name: own is a network from"),
        ({"fine_tune.freeze_depth": ["all", "none"]}, "not ['all', 'none']: backbone.name: own is a network"),
        ({"image.engine": "tensorflow"}, "backbone.name: own needs image.engine: openvino"),
        ({"head.extend": True}, "head.extend: true needs backbone.top: true"),
        (
            {"backbone.name": "ResNet50", "backbone.weights": "imagenet"},
            "backbone.preprocess is for backbone.name: own: ResNet50 scales pixels itself",
        ),
    ],
)
def test_what_does_not_fit_a_network_of_ones_own_is_one_line(changes, message):
    with pytest.raises(ThawError) as caught:
        parsed(OWN | changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_another_image_size_than_that_of_the_file_is_refused(tmp_path):
    artifact.write(section(draw(tmp_path / "net.xml", shape=(-1, 3, SIZE, SIZE))), tmp_path)
    image = Image(size=None, resize="crop", engine="openvino", precision="float32")
    assert extraction.sized(image, tmp_path).size == SIZE
    with pytest.raises(ThawError, match=rf"image\.size should be {SIZE}, not 64: own takes images of this size alone"):
        extraction.sized(image.model_copy(update={"size": 64}), tmp_path)


# --- The pipeline ---


@pytest.fixture(scope="module")
def run(tmp_path_factory, dvc_of_its_own):
    """A finished run on a drawn network in two files, of a fixed image size."""
    path = tmp_path_factory.mktemp("own") / "run"
    own = OWN | {"backbone.weights": "net.xml", "backbone.preprocess": "-1-1"}
    checkout = make_source(path, SMALL | own)
    draw(path / "net.xml", "map", (1, 3, 32, 32))
    checkout.printed = checkout.dvc("repro")
    assert checkout.printed.returncode == 0, checkout.printed.stdout + checkout.printed.stderr
    return checkout


def script(run, *arguments: str) -> subprocess.CompletedProcess:
    return run.run(sys.executable, *arguments)


def test_the_whole_pipeline_runs_and_says_what_it_makes_of_the_network(run):
    about = (
        "backbone: net.xml: it takes RGB images (1, 3, 32, 32) of 32 × 32 pixels, backbone.preprocess: -1-1; its "
        "output map is a map of 8 channels, (n, 8, 16, 16), which is pooled, backbone.pooling: avg"
    )
    assert about in run.printed.stdout
    metrics = json.loads((run.path / "reports/metrics.json").read_text())
    assert metrics["head"]["test"]["accuracy"] > 0.7
    assert metrics["head"]["test"]["accuracy"] == metrics["fine_tuned"]["test"]["accuracy"]
    description = json.loads((run.path / "models/backbone/backbone.json").read_text())
    assert re.fullmatch(r"net\.xml sha256:[0-9a-f]{64}", description["weights"])


def test_it_predicts_without_tensorflow_and_marks_what_is_far(run):
    blocked = "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv = sys.argv[1:]; "
    blocked += "sys.path.insert(0, 'src'); runpy.run_path(sys.argv[0], run_name='__main__')"
    options = ["photographs/blobs", "--far", "0.5", "--cache", "cache", "--json"]
    result = script(run, "-c", blocked, "src/predict.py", *options)
    assert result.returncode == 0 and "unsure beyond a distance" in result.stderr, result.stderr
    labels = [json.loads(line)["label"] for line in result.stdout.splitlines()]
    assert len(labels) == 25 and labels.count("blobs") > 17


def test_the_export_to_openvino_is_written_and_the_other_formats_say_that_they_cannot_hold_it(run):
    result = script(run, "src/export.py", "--format", "all")
    assert result.returncode == 1
    assert (run.path / "models/exports/openvino/model.xml").exists()
    for name in ("tflite", "tflite-float16", "tflite-int8", "onnx", "saved_model"):
        assert (
            f"export: {name} is not written: the backbone is a network from a file, which is exported to the format "
            "openvino alone\n" in result.stderr
        )
    assert len(list((run.path / "models/exports").iterdir())) == 1


def test_an_edit_of_the_second_file_reruns_the_backbone(run):
    assert run.repro() == []
    draw(run.path / "net.xml", "map", (1, 3, 32, 32), kernel=2 * kernels())
    assert {"backbone", "extract_features", "train_head"} <= set(run.repro())
