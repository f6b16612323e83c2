"""Weights are read safely and rightly; a network cut anywhere and put together again is the same network."""

import csv
import functools
import os
import pickle
import re
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from thaw import images
from thaw.backbones import cut_points, torch_weights
from thaw.errors import ThawError

OPEN_IMAGES = Path(__file__).parent.parent.parent / "shared" / "open_images"
MAGIC, PROTOCOL = torch_weights.LEGACY_MAGIC, 1001
SIZE = 64


# The reader of PyTorch's legacy format


class FloatStorage:
    kind = "FloatStorage"

    def __init__(self, key: str, numbers: np.ndarray):
        self.key, self.numbers = key, numbers


class LongStorage(FloatStorage):
    kind = "LongStorage"


def _rebuild_tensor_v2(*arguments):
    raise AssertionError("only its name is written")


class Tensor:
    """A strided view of a storage, pickled as PyTorch pickles a tensor."""

    def __init__(self, storage: FloatStorage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]):
        self.arguments = storage, offset, shape, strides, False, OrderedDict()

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, FloatStorage):
            return None
        return "storage", type(value), value.key, "cpu", len(value.numbers), None


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes a state dict as `torch.save` did before it wrote zip files."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for value, module in ((FloatStorage, torch), (LongStorage, torch), (_rebuild_tensor_v2, utils)):
        monkeypatch.setattr(value, "__module__", module.__name__)
        setattr(module, value.__name__, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def write(state: object, *storages: FloatStorage, magic: object = MAGIC, keys: object = None) -> Path:
        path = tmp_path / "weights.pth"
        with path.open("wb") as file:
            parts = magic, PROTOCOL, {"little_endian": True}, state, [s.key for s in storages] if keys is None else keys
            for part in parts:
                Pickler(file, 2).dump(part)
            for storage in storages:
                file.write(len(storage.numbers).to_bytes(8, "little") + storage.numbers.tobytes())
        return path

    return write


def floats(count: int, key: str = "0") -> FloatStorage:
    return FloatStorage(key, np.arange(count, dtype="<f4"))


def refusal(path: Path) -> str:
    with pytest.raises(ThawError) as caught:
        torch_weights.read_state_dict(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_contiguous_tensor_is_read(write):
    state = torch_weights.read_state_dict(write({"w": Tensor(floats(6), 0, (2, 3), (3, 1))}, floats(6)))
    np.testing.assert_array_equal(state["w"], np.arange(6, dtype=np.float32).reshape(2, 3), strict=True)


def test_the_strides_of_a_transposed_tensor_are_honoured(write):
    state = torch_weights.read_state_dict(write({"w": Tensor(floats(6), 0, (2, 3), (1, 2))}, floats(6)))
    np.testing.assert_array_equal(state["w"], np.arange(6).reshape(3, 2).T)
    assert state["w"].flags.c_contiguous


def test_the_strides_of_a_convolution_in_the_order_of_tensorflow_are_honoured(write):
    kernel = np.arange(2 * 3 * 4 * 5, dtype="<f4")  # (h, w, in, out), seen as (out, in, h, w)
    path = write({"w": Tensor(FloatStorage("0", kernel), 0, (5, 4, 2, 3), (1, 5, 60, 20))}, FloatStorage("0", kernel))
    expected = kernel.reshape(2, 3, 4, 5).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(torch_weights.read_state_dict(path)["w"], expected)


def test_two_tensors_may_share_a_storage(write):
    storage = floats(10)
    path = write({"a": Tensor(storage, 0, (4,), (1,)), "b": Tensor(storage, 4, (3,), (2,))}, storage)
    state = torch_weights.read_state_dict(path)
    assert state["a"].tolist() == [0, 1, 2, 3]
    assert state["b"].tolist() == [4, 6, 8]


def test_storages_stand_in_the_order_of_their_keys_and_not_of_the_tensors(write):
    one, two = floats(2, "1"), FloatStorage("2", np.array([7, 8, 9], "<f4"))
    state = torch_weights.read_state_dict(
        write(OrderedDict(x=Tensor(one, 0, (2,), (1,)), y=Tensor(two, 0, (3,), (1,))), two, one)
    )
    assert state["x"].tolist() == [0, 1]
    assert state["y"].tolist() == [7, 8, 9]


def test_whole_numbers_and_a_number_without_dimensions_are_read(write):
    count = LongStorage("0", np.array([2**40], "<i8"))
    state = torch_weights.read_state_dict(write({"n": Tensor(count, 0, (), ())}, count))
    assert state["n"].dtype == np.int64
    assert state["n"] == 2**40
    assert state["n"].shape == ()


class Call:
    """What a hostile file holds: an object that is 'rebuilt' by a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("part", ["magic", "state", "value", "keys"])
@pytest.mark.parametrize("function", [os.system, eval, exec, print, getattr])
def test_a_program_in_the_file_is_refused_and_does_not_run(write, tmp_path, part, function):
    code = (
        f"touch {tmp_path}/ran"
        if function is os.system
        else f"__import__('pathlib').Path({str(tmp_path)!r}, 'ran').touch()"
    )
    hostile = Call(function, code)
    parts = {"magic": {"magic": hostile}, "keys": {"keys": hostile}}.get(part, {})
    state = {"state": hostile, "value": {"w": hostile}}.get(part, {"w": Tensor(floats(6), 0, (6,), (1,))})
    assert "is not part of a plain state dict" in refusal(write(state, floats(6), **parts))
    assert not (tmp_path / "ran").exists()


def test_the_hostile_file_of_these_tests_would_run_in_a_plain_unpickler(tmp_path):
    pickle.loads(pickle.dumps(Call(os.system, f"touch {tmp_path}/ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "tensor",
    [
        (0, (7,), (1,)),
        (1, (6,), (1,)),
        (0, (2, 3), (4, 1)),
        (-1, (2,), (1,)),
        (5, (2,), (-1,)),
        (0, (2,), (10**9,)),
        (0, (7,), (0,)),
    ],
)
def test_a_tensor_that_reaches_outside_its_storage_is_refused(write, tensor):
    assert "outside its storage" in refusal(write({"w": Tensor(floats(6), *tensor)}, floats(6)))


def test_a_truncated_file_is_refused_wherever_it_ends(write):
    path = write({"w": Tensor(floats(6), 0, (2, 3), (3, 1))}, floats(6))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert "not a readable PyTorch state dict" in refusal(path)


def test_a_file_in_pytorchs_newer_format_says_how_to_write_the_older_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "lite0.pth", "w") as file:
        file.writestr("lite0/data.pkl", b"\x80\x02}q\x00.")
    with pytest.raises(ThawError, match="_use_new_zipfile_serialization=False"):
        torch_weights.read_state_dict(tmp_path / "lite0.pth")


def test_damage_anywhere_is_refused_in_one_line_or_read_over(write):
    path = write({"w": Tensor(floats(6), 0, (2, 3), (3, 1))}, floats(6))
    data = path.read_bytes()
    for position in range(len(data)):
        for value in (0, 1, ord("."), ord("R")):
            path.write_bytes(data[:position] + bytes([value]) + data[position + 1 :])
            try:
                torch_weights.read_state_dict(path)
            except ThawError as error:
                assert "\n" not in str(error)


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(write):
    path = write({"w": Tensor(floats(6), 0, (2, 3), (3, 1))}, floats(6))
    data = path.read_bytes()
    for count in (7, 2**40, 2**62, 2**64 - 1):
        path.write_bytes(data[:-32] + count.to_bytes(8, "little") + data[-24:])
        refusal(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), b"<html>404</html>", bytes(1000)])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    refusal(tmp_path / "weights.pth")


def test_a_missing_file_is_refused(tmp_path):
    refusal(tmp_path / "weights.pth")


# The names of cut points


LAYERS = [
    "preprocess", "stem_conv", "stem_activation", "block1a_conv", "block1a_project_bn", "block2a_project_bn",
    "block2b_add", "block10a_add", "top_conv", "top_activation", "features",
]  # fmt: skip


@pytest.mark.parametrize(
    ("freeze_depth", "layer"),
    [
        ("all", "features"), ("none", None), ("block2", "block2b_add"), ("block2a", "block2a_project_bn"),
        ("block1", "block1a_project_bn"), ("block10", "block10a_add"), ("stem", "stem_activation"),
        ("top", "top_activation"), ("block1a_conv", "block1a_conv"), ("preprocess", "preprocess"),
    ],
)  # fmt: skip
def test_a_freeze_depth_is_a_layer_a_block_or_a_part_of_one(freeze_depth, layer):
    assert cut_points.resolve(freeze_depth, LAYERS) == layer


@pytest.mark.parametrize(
    ("freeze_depth", "near"),
    [("blokc2", "block2"), ("block2c", "block2"), ("block2b", None), ("Block2", "block2"), ("non", "none"),
     ("stem_bn", "stem"), ("block", "block1"), ("", "all"), ("block2b_ad", "block2b_add"), ("to", "top"),
     ("ste", "stem"), (".*", "block1")],
)  # fmt: skip
def test_a_freeze_depth_that_is_no_cut_point_comes_with_the_nearest(freeze_depth, near):
    if near is None:
        assert cut_points.resolve(freeze_depth, LAYERS) == "block2b_add"
        return
    with pytest.raises(ThawError) as caught:
        cut_points.resolve(freeze_depth, LAYERS)
    text = str(caught.value)
    assert text.startswith(f"fine_tune.freeze_depth {freeze_depth!r} is no cut point of this backbone (")
    assert re.search(rf"\b{near}\b", text.split("backbone (")[1])
    assert "\n" not in text


# Networks (TensorFlow is imported from here on)


@pytest.fixture(scope="module")
def keras():
    from thaw.keras import keras

    return keras


@pytest.fixture(scope="module")
def imagenet():
    from thaw.backbones import registry

    return registry.pretrained("EfficientNetLite0", "imagenet", 1)


@pytest.fixture(scope="module")
def drawn(keras):
    """A backbone of random weights, its batch norms not trivial, its output not squeezed by a softmax."""
    from thaw.backbones import registry

    model = registry.pretrained("EfficientNetLite0", None, 1)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            shape = layer.kernel.shape
            inputs = np.prod(shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else shape[:3])
            layer.set_weights([rng.normal(0, np.sqrt(2 / inputs), shape)])  # so that no layer fades the signal out
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            spread = rng.uniform(0.5, 1.5, shape), rng.normal(0, 0.3, shape)
            layer.set_weights([*spread, rng.normal(0, 0.3, shape), rng.uniform(0.5, 1.5, shape)])
    model.get_layer("predictions").activation = keras.activations.linear
    return model


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """(4, SIZE, SIZE, 3) uint8: noise, each photograph brighter than the one before."""
    noise = np.random.default_rng(1).integers(0, 100, (4, SIZE, SIZE, 3), np.uint8)
    return noise + np.array([0, 50, 100, 155], np.uint8)[:, None, None, None]


@pytest.fixture(scope="module")
def outputs(keras, drawn, pixels) -> dict[str, np.ndarray]:
    """The output of every cut point, and of the whole, as Keras computes it."""
    cuts = cut_points.find_cut_points(drawn, "features")
    tensors = {cut.layer: drawn.get_layer(cut.layer).output for cut in cuts} | {"predictions": drawn.output}
    found = keras.Model(drawn.input, tensors)(pixels.astype(np.float32), training=False)
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.fixture(scope="module")
def network(keras, drawn, outputs, tmp_path_factory) -> Path:
    """The same as an OpenVINO network with an output at every cut point."""
    from thaw import openvino
    from thaw.conversion import convert

    path = tmp_path_factory.mktemp("network") / "backbone.xml"
    tensors = {name: drawn.get_layer(name).output for name in outputs}
    openvino.write(convert(keras.Model(drawn.input, tensors)), path)
    return path


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


def test_a_skip_connection_is_not_cut(keras):
    def dense(name, x):
        return keras.layers.Dense(3, name=name)(x)

    image = keras.Input((3,), name="image")
    a = dense("a", image)
    b = dense("b", a)
    c = dense("c", b)
    joined = keras.layers.Add(name="joined")([a, c])
    d = dense("d", joined)
    both = keras.layers.Concatenate(name="both")([dense("e", d), dense("f", d)])
    model = keras.Model(image, dense("top", both))
    assert [cut.layer for cut in cut_points.find_cut_points(model, "both")] == ["a", "joined", "d", "both"]
    assert [cut.layer for cut in cut_points.find_cut_points(model, "d")] == ["a", "joined", "d"]


def test_a_layer_that_the_input_passes_is_no_cut_point(keras):
    image = keras.Input((3,), name="image")
    a = keras.layers.Dense(3, name="a")(image)
    joined = keras.layers.Add(name="joined")([image, a])
    model = keras.Model(image, keras.layers.Dense(3, name="top")(joined))
    assert [cut.layer for cut in cut_points.find_cut_points(model, "joined")] == ["joined"]


def test_the_cut_points_of_the_backbone_are_those_known(drawn):
    layers = [cut.layer for cut in cut_points.find_cut_points(drawn, "features")]
    assert layers[:3] == ["stem_conv", "stem_bn", "stem_activation"]
    assert layers[-4:] == ["top_conv", "top_bn", "top_activation", "features"]
    inside = [layer for layer in layers if re.match(r"block\d[b-h]_", layer)]
    assert inside == [f"block{block}_add" for block in ["2b", "3b", "4b", "4c", "5b", "5c", "6b", "6c", "6d"]]
    assert all(f"block{n}a_project_bn" in layers for n in range(1, 8))


def test_the_parameters_on_both_sides_of_a_cut_add_up(drawn):
    for cut in cut_points.find_cut_points(drawn, "features"):
        assert cut.parameters_before + cut.parameters_behind == drawn.count_params()
    assert cut.parameters_behind == 1281 * 1000


def test_the_shape_of_a_cut_is_that_of_its_output(drawn, outputs):
    for cut in cut_points.find_cut_points(drawn, "features"):
        for said, found in zip(cut.shape, outputs[cut.layer].shape[1:], strict=True):
            assert said in (None, found)


def test_the_frozen_part_and_the_thawed_part_are_the_whole_at_every_cut_point(drawn, outputs):
    from thaw import models

    whole = outputs["predictions"]
    assert whole.std(axis=0).min() > 1e-3  # the photographs are told apart: equality below says something
    for layer in [name for name in outputs if name != "predictions"]:
        thawed = models.thawed_part(drawn, layer)
        found = np.asarray(thawed(outputs[layer], training=False))
        assert relative_error(found, whole) < 1e-4, layer


def test_the_engine_computes_what_keras_does_at_every_cut_point(network, outputs, pixels):
    from thaw.openvino import ov

    compiled = ov.Core().compile_model(ov.Core().read_model(network), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(pixels.astype(np.float32))
    for name, expected in outputs.items():
        assert relative_error(found[compiled.output(name)], expected) < 1e-4, name


@pytest.mark.parametrize("layer", ["stem_conv", "block2b_add", "block5c_add", "block6a_expand_activation", "features"])
def test_the_frozen_part_on_the_engine_is_keras_in_half_precision(network, outputs, pixels, layer):
    from thaw import inference

    found = np.concatenate(list(inference.openvino(network, layer, SIZE)(inference.rebatch([pixels]))))
    assert found.dtype == np.float16
    assert relative_error(found, outputs[layer]) < 1e-3


def test_random_weights_are_those_of_the_seed(keras):
    from thaw.backbones import registry

    one, two, other = (
        registry.pretrained("EfficientNetLite0", None, seed).get_layer("stem_conv").get_weights()[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert (one != other).mean() > 0.99


# The weights of ImageNet


@functools.cache
def classes() -> list[str]:
    from thaw.backbones import registry

    return [wordnet_id for wordnet_id, _ in registry.imagenet_classes()]


def view(path: Path) -> np.ndarray:
    return images.centre(images.fit(images.decode(path, 224), 224, "crop"), 224)


def sample(name: str) -> np.ndarray:
    """A photograph that comes with scikit-learn: `china.jpg`, a temple, or `flower.jpg`, a dahlia."""
    from sklearn import datasets

    return view(Path(datasets.__file__).parent / "images" / name)


def probabilities(model, views: list[np.ndarray]) -> np.ndarray:
    return np.asarray(model(np.stack(views).astype(np.float32), training=False))


TEMPLES = [
    "n03877845",
    "n02825657",
    "n03781244",
    "n04346328",
    "n02980441",
]  # palace, bell cote, monastery, stupa, castle
DAISY = "n11939491"


def of_temples(model) -> float:
    """The probability that a right network gives to a building of that kind: 0.68 of 1 at five classes of 1000."""
    return float(probabilities(model, [sample("china.jpg")])[0, [classes().index(i) for i in TEMPLES]].sum())


def test_there_are_a_thousand_classes_in_the_order_of_imagenet():
    assert len(set(classes())) == 1000
    assert classes()[0] == "n01440764"  # tench
    assert classes()[355] == "n02437616"  # llama
    assert classes()[999] == "n15075141"  # toilet tissue


def test_a_temple_is_seen_as_one(imagenet):
    assert of_temples(imagenet) > 0.5


def test_a_flower_is_seen_as_one(imagenet):
    assert classes()[probabilities(imagenet, [sample("flower.jpg")])[0].argmax()] == DAISY


def contiguous(storage: np.ndarray, view: torch_weights.StridedView) -> np.ndarray:
    """What a reader without strides would make of a tensor."""
    return storage[view.offset : view.offset + int(np.prod(view.shape))].reshape(view.shape)


def test_weights_read_without_their_strides_would_be_noticed(monkeypatch, keras):
    from thaw.backbones import registry

    monkeypatch.setattr(torch_weights, "_read_view", contiguous)
    assert of_temples(registry.pretrained("EfficientNetLite0", "imagenet", 1)) < 0.05


def test_kernels_with_height_and_width_exchanged_would_be_noticed(monkeypatch, keras):
    from thaw.backbones import efficientnet_lite, registry

    right = efficientnet_lite._keras_layout

    def exchanged(name: str, tensor: np.ndarray) -> np.ndarray:
        kernel = right(name, tensor)
        return kernel.swapaxes(0, 1) if kernel.ndim == 4 else kernel

    monkeypatch.setattr(efficientnet_lite, "_keras_layout", exchanged)
    assert of_temples(registry.pretrained("EfficientNetLite0", "imagenet", 1)) < 0.2


def test_the_first_convolution_takes_red_green_and_blue_as_the_weights_do(keras, imagenet):
    from thaw.backbones import registry

    state = torch_weights.read_state_dict(registry.package_file(*registry.PACKAGES["EfficientNetLite0"]))
    kernel = next(iter(state.values()))  # (out, in, height, width)
    patch = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.float32)
    stem = keras.Model(imagenet.input, imagenet.get_layer("stem_conv").output)
    found = np.asarray(stem(patch[None], training=False))[0, 1, 2]
    seen = (patch[2 - 1 : 2 + 2, 4 - 1 : 4 + 2] - 127) / 128  # 'same' padding at stride 2 puts output 1, 2 on 2, 4
    np.testing.assert_allclose(found, np.einsum("hwi,oihw->o", seen, kernel), rtol=1e-4, atol=1e-5)


def test_the_engine_sees_what_keras_sees(keras, imagenet, tmp_path):
    from thaw import inference, openvino
    from thaw.conversion import convert

    named = keras.Model(imagenet.input, {"predictions": imagenet.output})
    openvino.write(convert(named), tmp_path / "backbone.xml")
    views = [sample("china.jpg"), sample("flower.jpg")]
    (found,) = inference.openvino(tmp_path / "backbone.xml", "predictions", 224)([np.stack(views)])
    np.testing.assert_allclose(found, probabilities(imagenet, views), atol=1e-3)


@pytest.mark.skipif(not OPEN_IMAGES.is_dir(), reason="../shared/open_images is not there")
def test_most_alpacas_are_seen_as_llamas(imagenet):
    alpacas = set()
    for path in (OPEN_IMAGES / "annotations").glob("*-annotations-human-imagelabels-boxable.csv"):
        with path.open(encoding="utf-8") as file:
            rows = csv.DictReader(file)
            alpacas |= {r["ImageID"] for r in rows if r["LabelName"] == "/m/0pcr" and float(r["Confidence"]) == 1}
    views = [view(OPEN_IMAGES / "images" / f"{image_id}.jpg") for image_id in sorted(alpacas)[:24]]
    seen = probabilities(imagenet, views).argmax(axis=1)
    assert (seen == classes().index("n02437616")).mean() > 0.7


def test_a_package_that_is_missing_is_one_line(keras):
    from thaw.backbones import registry

    with pytest.raises(ThawError, match="the package no_such_package is not installed"):
        registry.package_file("no_such_package", "weights.pth")
    with pytest.raises(ThawError, match=r"lacks none\.json"):
        registry.package_file("imagenet_classes", "none.json")
