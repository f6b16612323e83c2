"""The backbones of all families: cut anywhere, they stay the same network; their pre-processing is part of it; their
weights come from where the parameters say, or one line says why not."""

import re
import urllib.request
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.special import softmax

from thaw.backbones import artifact, building, efficientnet_lite, imagenet, keras_applications, registry
from thaw.backbones import weights as weight_files
from thaw.backbones.cut_points import FEATURES, find_cut_points, resolve
from thaw.core.errors import ThawError
from thaw.engines import inference, model_files, openvino_setup
from thaw.engines.keras_setup import keras
from thaw.engines.keras_to_openvino import convert
from thaw.engines.openvino_setup import ov
from thaw.heads import extended
from thaw.parameters.backbone import Backbone

FAMILIES = {  # with the cut points that a person would name
    "ConvNeXtTiny": ["convnext_tiny_stem", "convnext_tiny_stage_0_block_0_add", "convnext_tiny_stage_3_block_2_add"],
    "DenseNet121": ["pool1", "conv2_block6_concat", "pool4_pool"],
    "EfficientNetLite0": ["stem_activation", "block2b_add", "block7a_project_bn"],
    "EfficientNetV2B0": ["stem_activation", "block2b_add", "block6h_add"],
    "InceptionV3": ["mixed0", "mixed5", "mixed10"],
    "MobileNetV2": ["Conv1_relu", "block_2_add", "out_relu"],
    "MobileNetV3Small": ["expanded_conv_2_add", "expanded_conv_4_add", "expanded_conv_10_add"],
    "NASNetMobile": ["stem_conv1", "normal_concat_12"],
    "ResNet50": ["pool1_pool", "conv2_block3_out", "conv5_block3_out"],
    "ResNet50V2": ["conv1_conv", "conv2_block3_out", "post_relu"],
    "VGG16": ["block1_pool", "block3_conv2", "block5_pool"],
    "Xception": ["add", "add_11", "block14_sepconv2_act"],
}


def draw_weights(model: keras.Model, kernels: bool) -> None:
    """Kernels that neither fade the signal out nor blow it up, and batch norms unlike those of a fresh network."""
    generator = np.random.default_rng(1)
    for layer in model.layers:
        kinds, values = [variable.name for variable in layer.weights], layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):  # not every family has gamma
            spread = {
                "gamma": (0.5, 1.5),
                "beta": (-0.3, 0.3),
                "moving_mean": (-0.3, 0.3),
                "moving_variance": (0.5, 1.5),
            }
            values = [generator.uniform(*spread[kind], v.shape) for kind, v in zip(kinds, values, strict=True)]
        elif not kernels:
            pass
        elif "kernel" in kinds and isinstance(layer, keras.layers.DepthwiseConv2D):
            values[0] = generator.normal(0, np.sqrt(2 / np.prod(values[0].shape[:2])), values[0].shape)
        elif "kernel" in kinds:
            values[0] = generator.normal(0, np.sqrt(2 / np.prod(values[0].shape[:-1])), values[0].shape)
        layer.set_weights(values)
    if model.layers[-1].name == "predictions":
        model.layers[-1].activation = keras.activations.linear  # a softmax would hide what differs


class Family:
    def __init__(self, name: str, kernels: bool = True):
        self.model, _ = building.build(name, None, 1)
        draw_weights(self.model, kernels)
        self.cuts = [cut.layer for cut in find_cut_points(self.model, FEATURES)]
        self.size = max(64, registry.input_size(name).smallest)
        self.pixels = np.random.default_rng(2).integers(0, 256, (2, self.size, self.size, 3)).astype(np.float32)
        self.pixels[1] *= 0.3  # the second is darker: a network that answered both alike would prove little
        self.tensors = {layer: self.model.get_layer(layer).output for layer in self.cuts}
        outputs = keras.Model(self.model.input, self.tensors)(self.pixels, training=False)
        self.outputs = {layer: np.asarray(value) for layer, value in outputs.items()}
        self.output = np.asarray(self.model(self.pixels, training=False))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    # With drawn kernels EfficientNetV2B0 makes a thousandth of a millionth of its input.
    return Family(request.param, kernels=request.param != "EfficientNetV2B0")


def answers(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """What a network answers, without the graph that `predict` would trace first."""
    return np.asarray(model(pixels.astype(np.float32), training=False))


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual.astype(np.float64) - expected).max() / np.abs(expected).max())


def test_frozen_and_thawed_part_are_the_full_network_at_every_cut_point(family, request):
    """Between each cut point and the next lies what makes the one of the other, so that the rest of the network
    follows from any of them; and some thawed parts as training uses them, about eight a network."""
    outputs = family.outputs
    assert relative_error(family.output[0], family.output[1]) > 1e-3  # different outputs for different images
    assert set(FAMILIES[request.node.callspec.params["family"]]) <= set(family.cuts)
    for before, layer in zip(family.cuts, family.cuts[1:], strict=False):
        between = keras.Model(family.tensors[before], family.tensors[layer])
        assert relative_error(np.asarray(between(outputs[before], training=False)), outputs[layer]) < 1e-4, layer
    for layer in family.cuts[: -1 : max(1, len(family.cuts) // 8)]:
        thawed = model_files.thawed_part(family.model, layer)
        assert relative_error(np.asarray(thawed(outputs[layer], training=False)), family.output) < 1e-4, layer


def test_the_engine_computes_what_keras_does_at_every_cut_point(family, tmp_path):
    openvino_setup.write(convert(keras.Model(family.model.input, family.tensors)), tmp_path / "backbone.xml")
    network = ov.Core().read_model(tmp_path / "backbone.xml")
    network.reshape([2, family.size, family.size, 3])
    compiled = ov.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = compiled(family.pixels)
    for layer, expected in family.outputs.items():
        assert relative_error(outputs[compiled.output(layer)], expected) < 1e-4, layer
    shapes = inference.output_shapes(tmp_path / "backbone.xml", family.cuts, family.size)
    assert list(shapes) == [None, *family.cuts]
    assert all(shapes[layer] == value.shape[1:] for layer, value in family.outputs.items())


def test_every_functional_model_of_keras_applications_is_there():
    named = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(keras_applications.MODELS) == named


@pytest.mark.parametrize("name", keras_applications.MODELS)
def test_the_pre_processing_is_that_of_keras(name):
    """Of the families that bring their own, `preprocess_input` does nothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)
    image = keras.Input((None, None, 3))
    _, scaling = keras_applications.MODELS[name]
    scaled = keras.layers.Identity()(keras_applications.preprocess(image, scaling))
    actual = np.asarray(keras.Model(image, scaled)(pixels))
    np.testing.assert_allclose(actual, preprocess_input(name)(pixels.copy()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0"])
def test_at_its_own_size_a_network_is_that_of_keras(name):
    """The paddings of these depend on the size that they are built for: ours takes any, and keeps those of its own."""
    keras.utils.set_random_seed(3)
    module = {"MobileNetV2": keras.applications.mobilenet_v2, "EfficientNetB0": keras.applications.efficientnet}[name]
    theirs = getattr(keras.applications, name)(
        include_top=False, weights=None, pooling="avg", input_shape=(224, 224, 3)
    )
    ours, _ = building.build(name, None, 1)
    ours.set_weights(theirs.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    expected = theirs(module.preprocess_input(pixels.copy()), training=False)
    assert relative_error(np.asarray(ours(pixels, training=False)), np.asarray(expected)) < 1e-5


# --- backbone.cut and backbone.pooling ---


def test_a_cut_keeps_the_network_up_to_a_layer_as_a_map():
    model, behind = building.build("VGG16", None, 1, "block1_pool", None)
    assert model.output.shape == (None, None, None, 64)
    assert [layer.name for layer in model.layers[-2:]] == ["block1_pool", FEATURES]
    assert behind[0] == "block2_conv1"
    assert behind[-1] == "block5_pool"


@pytest.mark.parametrize(("pooling", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_a_cut_is_pooled_over_its_positions(pooling, reduce):
    maps, _ = building.build("VGG16", None, 1, "block1", None)
    pooled, _ = building.build("VGG16", None, 1, "block1", pooling)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    expected = reduce(np.asarray(maps(pixels, training=False)), axis=(1, 2))
    np.testing.assert_allclose(np.asarray(pooled(pixels, training=False)), expected, rtol=1e-5)


def test_a_cut_that_is_none_comes_with_the_nearest():
    with pytest.raises(ThawError, match=r"backbone\.cut 'block1_pol' is no cut point.*did you mean block1_pool"):
        building.build("VGG16", None, 1, "block1_pol", None)


@pytest.mark.parametrize("depth", ["block3_conv1", "block3"])
def test_a_freeze_depth_behind_the_cut_says_so(depth):
    with pytest.raises(ThawError, match=rf"freeze_depth '{depth}' lies behind backbone.cut: .* is block1_pool"):
        resolve(depth, ["block1_conv1", "block1_pool", "features"], ["block2_conv1", "block3_conv1"])


# --- backbone.top ---

TOPS = {  # the file that its weights come from, and its last cut points
    "MobileNetV2": (".keras", ["out_relu", "features"]),
    "MobileNet": (".h5", ["conv_pw_13_relu", "features"]),  # dropout, and a convolution as the last layer
    "MobileNetV3Small": (".weights.h5", ["conv_2", "activation_18", "features"]),  # and one before it
    "VGG16": (".h5", ["block5_pool", "flatten", "fc1", "fc2", "features"]),  # dense layers on the flattened map
}


@pytest.fixture
def small_vgg(monkeypatch):
    """VGG16 as if it had been trained with 32 pixels: its first dense layer has a fiftieth of the weights."""
    monkeypatch.setitem(keras_applications.MODELS, "VGG16", (registry.InputSize(32, 32), "caffe"))


def preprocess_input(name: str):
    """Return the function of keras.applications that scales the pixels for a network."""
    modules = (module for module in vars(keras.applications).values() if hasattr(module, "preprocess_input"))
    return next((m for m in modules if hasattr(m, name)), keras.applications.mobilenet_v3).preprocess_input


def keras_network(name: str, pixels: np.ndarray) -> keras.Model:
    """Return a network of keras.applications that returns logits with a deviation near 1 for preprocessed pixels."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(4)
    network = getattr(keras.applications, name)(weights=None, input_tensor=keras.Input(pixels.shape[1:]))
    draw_weights(network, kernels=False)
    last = [layer for layer in network.layers if layer.weights][-1]
    for layer in (last, network.layers[-1]):
        layer.activation = keras.activations.linear
    kernel, bias = last.get_weights()
    scale = answers(network, pixels).std()
    last.set_weights([kernel / scale, np.random.default_rng(5).normal(size=bias.shape)])
    return network


@pytest.mark.parametrize(("name", "kind", "cuts"), [(name, *expected) for name, expected in TOPS.items()])
@pytest.mark.usefixtures("small_vgg")
def test_the_classes_of_a_file_of_keras_are_those_of_keras_and_of_the_head_that_is_extended(name, kind, cuts, tmp_path):
    size = keras_applications.MODELS[name][0].trained
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    pixels[1] //= 3
    preprocessed = preprocess_input(name)(pixels.astype(np.float32))
    theirs = keras_network(name, preprocessed)
    expected = softmax(answers(theirs, preprocessed), axis=1)
    path = save(theirs, tmp_path / f"mine{kind}")

    backbone = Backbone(name=name, weights=str(path), top=True, preprocess=None, cut=None, pooling="avg", seed=1)
    ours = artifact.write(backbone, tmp_path)
    assert [point.layer for point in find_cut_points(ours, FEATURES)][-len(cuts) :] == cuts
    side = size if name == "VGG16" else None  # other sizes would not fit the dense layers on the flattened map
    assert ours.input.shape == (None, side, side, 3)
    np.testing.assert_allclose(answers(ours, pixels), expected, rtol=1e-4)
    features, predictions = (
        next(inference.compile_openvino(tmp_path / "backbone.xml", output, size, np.float32)([pixels]))
        for output in (FEATURES, "predictions")
    )
    np.testing.assert_allclose(predictions, expected, rtol=1e-3)
    old_head = extended.read_old_head(True, tmp_path)
    np.testing.assert_allclose(old_head.probabilities(features), expected, rtol=1e-3)
    assert old_head.classes[:3] == ("tench", "goldfish", "great white shark")
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == len(old_head.classes) + 1 == 1001


def test_a_trained_model_with_the_features_of_a_top_is_a_backbone_without_one(tmp_path):
    network, _ = building.build("MobileNetV3Small", None, 1, top=True)
    path = tmp_path / "model.keras"
    model_files.save(network, path, {"fine_tune": {}})
    built, _ = building.build("MobileNetV3Small", str(path), 2)
    assert built.layers[-1].name == FEATURES
    np.testing.assert_array_equal(*(model.get_layer("conv_2").get_weights()[0] for model in (built, network)))
    with pytest.raises(ThawError, match=r"is a trained model: set backbone\.top to false"):
        building.build("MobileNetV3Small", str(path), 2, top=True)


# --- Weights ---


@pytest.fixture(scope="module")
def mobilenet():
    return building.full_network("MobileNet", None, 7)


def save_as_keras_2(model: keras.Model, path: Path) -> None:
    """Write weights as keras.applications comes: by layer, in the order of the computation."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [f"{layer.name}/{v.name}:0".encode() for v in layer.weights]
            for variable in layer.weights:
                group[f"{layer.name}/{variable.name}:0"] = np.asarray(variable)


def save(model: keras.Model, path: Path) -> Path:
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.suffix == ".keras":
        model.save(path)
    else:
        save_as_keras_2(model, path)
    return path


each_kind = pytest.mark.parametrize("kind", [".weights.h5", ".keras", ".h5"])


@each_kind
def test_the_weights_of_a_file_are_taken_over(mobilenet, tmp_path, kind):
    path = save(mobilenet, tmp_path / f"mine{kind}")
    loaded = building.full_network("MobileNet", str(path), 1)
    for ours, theirs in zip(loaded.get_weights(), mobilenet.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def whole_mobilenet():
    return building.full_network("MobileNet", None, 7, top=True)


@pytest.mark.parametrize("kind", [".weights.h5", ".h5"])
def test_a_file_without_the_classes_says_so_where_they_are_wanted(mobilenet, tmp_path, kind):
    path = save(mobilenet, tmp_path / f"mine{kind}")
    with pytest.raises(ThawError, match="has the weights of MobileNet without those of its 1000 classes") as caught:
        building.full_network("MobileNet", str(path), 1, top=True)
    assert "\n" not in str(caught.value)


def test_a_file_with_the_classes_says_so_where_they_are_not_wanted(whole_mobilenet, tmp_path):
    path = save(whole_mobilenet, tmp_path / "mine.h5")
    with pytest.raises(ThawError, match=r"with those of its 1000 classes: set backbone\.top to true"):
        building.full_network("MobileNet", str(path), 1)


def test_the_classes_of_a_file_of_keras_3_may_be_left_out(whole_mobilenet, tmp_path):
    path = save(whole_mobilenet, tmp_path / "mine.weights.h5")
    loaded = building.full_network("MobileNet", str(path), 1)
    for ours, theirs in zip(loaded.get_weights(), whole_mobilenet.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("kind", "message"), [(".weights.h5", "without those of its 1000"), (".h5", "(1000,)")])
def test_a_file_with_other_classes_is_one_line(tmp_path, kind, message):
    twelve = keras.applications.MobileNet(weights=None, classes=12)
    path = save(twelve, tmp_path / f"mine{kind}")
    with pytest.raises(ThawError, match=re.escape(message)) as caught:
        building.full_network("MobileNet", str(path), 1, top=True)
    assert "\n" not in str(caught.value)


@each_kind
def test_weights_of_another_network_name_the_first_layer_that_differs(mobilenet, tmp_path, kind):
    path = save(mobilenet, tmp_path / f"mine{kind}")
    with pytest.raises(ThawError, match=r"weights of another network.*block1_conv1") as caught:
        building.full_network("VGG16", str(path), 1)
    assert "\n" not in str(caught.value)


@each_kind
def test_weights_of_another_shape_name_the_first_layer_that_differs(mobilenet, tmp_path, kind):
    narrow = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.5)
    path = save(narrow, tmp_path / f"mine{kind}")
    with pytest.raises(ThawError, match=r"weights of another network.*conv1\b.*\(3, 3, 3, 32\).*\(3, 3, 3, 16\)"):
        building.full_network("MobileNet", str(path), 1)


@pytest.mark.parametrize("content", [b"", b"hello", "half"])
@each_kind
def test_a_damaged_file_is_one_line(mobilenet, tmp_path, kind, content):
    path = save(mobilenet, tmp_path / f"mine{kind}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if content == "half" else content)
    with pytest.raises(ThawError, match="is damaged, or not a file of weights") as caught:
        weight_files.load_file(mobilenet, path, weight_files.load_keras_file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(mobilenet, tmp_path):
    with pytest.raises(ThawError, match="there is no file"):
        weight_files.load_file(mobilenet, tmp_path / "none.h5", weight_files.load_keras_file)


def test_a_state_dict_of_another_network_names_the_first_layer_that_differs():
    path = efficientnet_lite.weights_file("EfficientNetLite1")
    with pytest.raises(ThawError, match=r"layer block3a_dwconv\S* needs .* in the file has"):
        building.full_network("EfficientNetLite0", str(path), 1)
    with pytest.raises(ThawError, match=r"a \.pth file has weights for EfficientNet-Lite only, not for MobileNet"):
        building.full_network("MobileNet", str(path), 1)


@pytest.mark.parametrize("name", ["EfficientNetLite1", "EfficientNetLite2"])
def test_the_larger_lite_networks_have_their_weights(name):
    from sklearn import datasets

    from thaw.images import decoding

    size = registry.input_size(name).trained
    path = Path(datasets.__file__).parent / "images" / "china.jpg"  # a temple
    view = decoding.centre_crop(decoding.fit(decoding.decode(path, size), size, "crop"), size)
    network = building.full_network(name, "imagenet", 1)
    probabilities = np.asarray(network(view[None].astype(np.float32), training=False))[0]
    assert imagenet.imagenet_classes()[probabilities.argmax()][1] == "palace"


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """A home of Keras that is empty, on a machine without the internet."""
    from keras.src.backend import config

    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    urllib.request.install_opener(urllib.request.build_opener())  # an earlier one may know of no proxy
    yield tmp_path
    urllib.request.install_opener(None)


def test_without_a_home_the_weights_are_where_keras_looks_for_them(monkeypatch):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", "/nowhere")
    said = keras_applications._unreachable("ResNet50", "URL fetch failure on https://host/w.h5: None -- no answer")
    assert "put that file at /tmp/.keras/models/w.h5" in said


@pytest.mark.parametrize(
    ("top", "name"),
    [
        (False, "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        (True, "resnet50_weights_tf_dim_ordering_tf_kernels.h5"),
    ],
)
def test_without_the_internet_the_error_says_what_to_fetch_and_where_to_put_it(keras_home, top, name):
    with pytest.raises(ThawError) as caught:
        building.full_network("ResNet50", "imagenet", 1, top)
    message = str(caught.value)
    assert f"/{name} (" in message
    assert "https://" in message
    assert f"put that file at {keras_home}/models/{name}" in message
    assert "dvc pull" in message


@pytest.mark.parametrize(
    ("top", "file", "layer"),
    [(False, "mobilenet_1_0_224_tf_no_top.h5", "conv1"), (True, "mobilenet_1_0_224_tf.h5", "conv_preds")],
)
def test_a_file_put_there_is_used(keras_home, whole_mobilenet, mobilenet, top, file, layer):
    network = whole_mobilenet if top else mobilenet
    (keras_home / "models").mkdir()
    save_as_keras_2(network, keras_home / "models" / file)
    loaded = building.full_network("MobileNet", "imagenet", 1, top)
    np.testing.assert_array_equal(loaded.get_layer(layer).get_weights()[0], network.get_layer(layer).get_weights()[0])


def test_a_damaged_file_put_there_is_one_line(keras_home, mobilenet):
    (keras_home / "models").mkdir()
    (keras_home / "models" / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"half a file")
    with pytest.raises(ThawError, match="the ImageNet weights of MobileNet could not be loaded"):
        building.full_network("MobileNet", "imagenet", 1)


DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def normalization(model: keras.Model) -> keras.layers.Normalization:
    return next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))


@pytest.fixture(scope="module")
def efficientnet_from_a_file(tmp_path_factory):
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    plain = keras_applications.build("EfficientNetB0", imagenet=False)
    normalization(plain).set_weights([np.array([0.485, 0.456, 0.406]), DEVIATION**2, np.array(0)])
    path = save(plain, tmp_path_factory.mktemp("efficientnet") / "mine.weights.h5")
    return building.full_network("EfficientNetB0", str(path), 1)


def test_an_efficientnet_from_a_file_is_normalised_as_with_the_weights_of_keras(efficientnet_from_a_file):
    """Keras divides by the root of the deviation once more, where it fetches them itself."""
    loaded = efficientnet_from_a_file
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)
    normalised = keras.Model(loaded.input, normalization(loaded).output)(pixels)
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / DEVIATION / np.sqrt(DEVIATION)
    np.testing.assert_allclose(np.asarray(normalised), expected, rtol=1e-4, atol=1e-4)


def test_an_efficientnet_that_was_built_from_a_file_is_normalised_once(efficientnet_from_a_file, tmp_path):
    path = save(efficientnet_from_a_file, tmp_path / "built.weights.h5")
    again = building.full_network("EfficientNetB0", str(path), 1)
    one, other = (normalization(model).get_weights()[1] for model in (efficientnet_from_a_file, again))
    assert (one < DEVIATION**2).all()
    np.testing.assert_array_equal(one, other)
