"""The ImageNet weights of EfficientNet-Lite are read rightly: it recognises what is in an image."""

import csv
import functools
from pathlib import Path

import numpy as np
import pytest

from thaw.backbones import efficientnet_lite, torch_weights
from thaw.backbones.imagenet import imagenet_classes, package_file
from thaw.core.errors import ThawError
from thaw.images import decoding

OPEN_IMAGES = Path(__file__).parent.parent.parent / "shared" / "open_images"


@pytest.fixture(scope="module")
def keras():
    from thaw.engines.keras_setup import keras

    return keras


@pytest.fixture(scope="module")
def imagenet():
    from thaw.backbones import building

    return building.full_network("EfficientNetLite0", "imagenet", 1)


@functools.cache
def classes() -> list[str]:
    return [wordnet_id for wordnet_id, _ in imagenet_classes()]


def view(path: Path) -> np.ndarray:
    return decoding.centre_crop(decoding.fit(decoding.decode(path, 224), 224, "crop"), 224)


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


def temple_probability(model) -> float:
    """The probability that a right network gives to a building of that kind: 0.68 of 1 at five classes of 1000."""
    return float(probabilities(model, [sample("china.jpg")])[0, [classes().index(i) for i in TEMPLES]].sum())


def test_there_are_a_thousand_classes_in_the_order_of_imagenet():
    assert len(set(classes())) == 1000
    assert classes()[0] == "n01440764"  # tench
    assert classes()[355] == "n02437616"  # llama
    assert classes()[999] == "n15075141"  # toilet tissue


def test_a_temple_is_recognised(imagenet):
    assert temple_probability(imagenet) > 0.5


def test_a_flower_is_recognised(imagenet):
    assert classes()[probabilities(imagenet, [sample("flower.jpg")])[0].argmax()] == DAISY


def contiguous(storage: np.ndarray, view: torch_weights.StridedView) -> np.ndarray:
    """What a reader without strides would make of a tensor."""
    return storage[view.offset : view.offset + int(np.prod(view.shape))].reshape(view.shape)


def test_weights_read_without_their_strides_would_be_noticed(monkeypatch, keras):
    from thaw.backbones import building

    monkeypatch.setattr(torch_weights, "_read_view", contiguous)
    assert temple_probability(building.full_network("EfficientNetLite0", "imagenet", 1)) < 0.05


def test_kernels_with_height_and_width_exchanged_would_be_noticed(monkeypatch, keras):
    from thaw.backbones import building

    right = efficientnet_lite._keras_layout

    def exchanged(name: str, tensor: np.ndarray) -> np.ndarray:
        kernel = right(name, tensor)
        return kernel.swapaxes(0, 1) if kernel.ndim == 4 else kernel

    monkeypatch.setattr(efficientnet_lite, "_keras_layout", exchanged)
    assert temple_probability(building.full_network("EfficientNetLite0", "imagenet", 1)) < 0.2


def test_the_first_convolution_takes_red_green_and_blue_as_the_weights_do(keras, imagenet):
    state = torch_weights.read_state_dict(efficientnet_lite.weights_file("EfficientNetLite0"))
    kernel = next(iter(state.values()))  # (out, in, height, width)
    patch = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.float32)
    stem = keras.Model(imagenet.input, imagenet.get_layer("stem_conv").output)
    output = np.asarray(stem(patch[None], training=False))[0, 1, 2]
    pixels = (patch[2 - 1 : 2 + 2, 4 - 1 : 4 + 2] - 127) / 128  # 'same' padding at stride 2 puts output 1, 2 on 2, 4
    np.testing.assert_allclose(output, np.einsum("hwi,oihw->o", pixels, kernel), rtol=1e-4, atol=1e-5)


def test_openvino_returns_what_keras_does(keras, imagenet, tmp_path):
    from thaw.engines import inference, openvino_setup
    from thaw.engines.keras_to_openvino import convert

    named = keras.Model(imagenet.input, {"predictions": imagenet.output})
    openvino_setup.write(convert(named), tmp_path / "backbone.xml")
    views = [sample("china.jpg"), sample("flower.jpg")]
    (output,) = inference.compile_openvino(tmp_path / "backbone.xml", "predictions", 224)([np.stack(views)])
    np.testing.assert_allclose(output, probabilities(imagenet, views), atol=1e-3)


@pytest.mark.skipif(not OPEN_IMAGES.is_dir(), reason="../shared/open_images is not there")
def test_most_alpacas_are_recognised_as_llamas(imagenet):
    alpacas = set()
    for path in (OPEN_IMAGES / "annotations").glob("*-annotations-human-imagelabels-boxable.csv"):
        with path.open(encoding="utf-8") as file:
            rows = csv.DictReader(file)
            alpacas |= {r["ImageID"] for r in rows if r["LabelName"] == "/m/0pcr" and float(r["Confidence"]) == 1}
    views = [view(OPEN_IMAGES / "images" / f"{image_id}.jpg") for image_id in sorted(alpacas)[:24]]
    predicted = probabilities(imagenet, views).argmax(axis=1)
    assert (predicted == classes().index("n02437616")).mean() > 0.7


def test_a_package_that_is_missing_is_one_line():
    with pytest.raises(ThawError, match="the package no_such_package is not installed"):
        package_file("no_such_package", "weights.pth")
    with pytest.raises(ThawError, match=r"lacks none\.json"):
        package_file("imagenet_classes", "none.json")
