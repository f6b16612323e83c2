"""A network of a person's own as a frozen backbone: an ONNX file, or OpenVINO's `.xml` with its `.bin`.

Any network serves that maps pixels to features (n, channels), tokens (n, tokens, channels) or maps. It has no layers of
Keras, so it cannot thaw. Its file does not say how pixels are scaled: `backbone.preprocess` does.
"""

import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from thaw.backbones.base import Family, InputSize
from thaw.backbones.cut_points import FEATURES
from thaw.backbones.keras_applications import DEVIATION, MEAN
from thaw.core.errors import ThawError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from thaw.engines.keras_setup import keras
    from thaw.engines.openvino_setup import ov

NAME = "own"
SIZE = InputSize(224, 32)  # if the file takes images of any size
SIDES = (SIZE.trained, 256, 384, 448, 518, 336, 240, 299, 512)  # of images, in pixels, the most usual first
PIXELS = "0-255"
PREPROCESS = {  # mean and deviation of each channel, of pixels 0-1
    PIXELS: ((0, 0, 0), (1 / 255, 1 / 255, 1 / 255)),
    "0-1": ((0, 0, 0), (1, 1, 1)),
    "-1-1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": (MEAN, DEVIATION),
}
POOLED_TOKENS = ("avg", "max", "cls", "cls_avg")  # the values of `backbone.pooling` that tokens have
MAP_POOLINGS = ("avg", "max", None)
CLASSES = 1000
MAX_DIFFERENCE = 1e-3  # of the largest number: between an image alone, and the same beside another


class Input(NamedTuple):
    """What a network takes."""

    image: "ov.Node"  # (n, 3, h, w) float32, in the place of the network's own input
    side: int | None  # of the images, in pixels, as the file says; None for any
    batch: int | None  # the number of images, if it is fixed
    channels_last: bool  # in the network's own input
    text: str


def read(
    path: Path, preprocess: str | Sequence, cut: str | None, pooling: str | None, top: bool = False
) -> "keras.Model":
    """Return a network from (n, h, w, 3) RGB pixels 0-255 to what the network of a file returns for them.

    Args:
        path: the file.
        preprocess: a key of PREPROCESS, or mean and deviation of the three channels, of pixels 0-1.
        cut: the tensor of the network that is its output, by its name in the file; None for its only output.
        pooling: of tokens over their positions, one of POOLED_TOKENS. Maps are left as they are.
        top: the output is CLASSES logits or probabilities of a dense layer. Its weights become the layer `predictions`,
            and what it reads the layer `features`.

    Returns:
        The network. Its layer `network` returns features (n, channels) or maps (n, h, w, channels), and says in `about`
        what the network of the file takes and returns. If its images have one fixed size, the input has it.

    Raises:
        ThawError: the file is missing or damaged, or its network does not serve.
    """
    from thaw.engines.keras_setup import keras
    from thaw.engines.openvino_layer import OpenVINONetwork
    from thaw.engines.openvino_setup import ov

    network = _load(path)
    try:
        tensor, name = _choose_output(network, cut)
        if not tensor.get_element_type().is_real():
            raise _UnfitError(f"returns {tensor.get_element_type().to_string()} in {name}, and no features")
        weights = None
        if top:
            tensor, weights = _split_top(tensor)
        taken = _replace_input(network, preprocess)
        side, shape = _compute(tensor, taken, preprocess)
        output, returned = _as_features(tensor, shape, taken.channels_last, pooling)
        kept = ov.Model([output], [taken.image], NAME)
        exact, larger = (_shape_at(kept, pixels) for pixels in (side, 2 * side))
        if not exact:
            raise _UnfitError("returns features whose number depends on what an image shows")
    except _UnfitError as error:
        raise ThawError(f"backbone.weights: {path} {error}") from error
    _, channels, *sides = exact
    any_size = taken.side is None and larger[:2] == exact[:2]  # some files only say so
    sizes = "of any size" if any_size else f"of {side} × {side} pixels"

    keras.backend.clear_session()
    x = image = keras.Input((None, None, 3) if any_size else (side, side, 3), name="image")
    if preprocess != PIXELS:
        mean, deviation = PREPROCESS[preprocess] if isinstance(preprocess, str) else preprocess
        scale, offset = [1 / 255 / d for d in deviation], [-m / d for m, d in zip(mean, deviation, strict=True)]
        x = keras.layers.Rescaling(scale, offset, name="preprocess")(x)
    parameters = sum(
        prod(step.get_output_shape(0))
        for step in kept.get_ops()
        if step.get_type_name() == "Constant" and step.get_output_element_type(0).is_real()
    )
    layer = OpenVINONetwork(
        output=[*((None for _ in sides) if any_size else sides), channels],
        parameters=parameters,
        about=f"it takes {taken.text} {sizes}, backbone.preprocess: {preprocess}; its output {name} {returned}",
        files=_files(kept),
        name="network",
    )
    x = layer(x)
    if weights is not None:
        dense = keras.layers.Dense(CLASSES, activation="softmax", name="predictions")
        x = dense(keras.layers.Identity(name=FEATURES)(x))
        dense.set_weights(weights)
    return keras.Model(image, x, name=NAME)


class _UnfitError(Exception):
    """Why a network cannot be a backbone: the rest of a sentence that begins with its file."""


def _load(path: Path) -> "ov.Model":
    from thaw.core import weight_files
    from thaw.core.silence import silence
    from thaw.engines.openvino_setup import ov, reason

    weight_files.parts(path)  # raises ThawError if one is missing
    try:
        with silence(2):  # if no reader knows the file, several say why
            return ov.Core().read_model(path)
    except RuntimeError as error:
        message = reason(error)
        if message.startswith("Unable to read the model"):
            message = "it is damaged, or no network"
        raise ThawError(f"backbone.weights: {path} cannot be read: {message}") from error


def _choose_output(network: "ov.Model", cut: str | None) -> "tuple[ov.Output, str]":
    """Return the tensor that is the output of a network, and its name."""
    names = [_name(output) for output in network.outputs]
    if cut is None:
        if len(names) != 1:
            raise _UnfitError(f"has {len(names)} outputs: set backbone.cut to one of {', '.join(names)}")
        return network.output().get_node().input_value(0), names[0]
    no_tensors = ("Constant", "Result", "Parameter")
    steps = [step for step in network.get_ordered_ops() if step.get_type_name() not in no_tensors]
    tensors = {name: output for step in steps for output in step.outputs() for name in output.get_names()}
    if cut not in tensors:
        meant = did_you_mean(cut, dict.fromkeys([*names, *tensors]))
        raise _UnfitError(f"has no tensor {cut!r}, which backbone.cut names{meant}")
    return tensors[cut], cut


def _split_top(tensor: "ov.Output") -> "tuple[ov.Output, list[np.ndarray]]":
    """Return what the dense layer at the end of a network reads, and its kernel (channels, CLASSES) and bias."""
    import numpy as np

    step = tensor.get_node()
    if step.get_type_name() == "Softmax":
        step = step.input_value(0).get_node()
    bias = None
    if step.get_type_name() == "Add":
        constants = [_constant(step.input_value(i)) for i in range(2)]
        bias = next((constant for constant in constants if constant is not None), None)
        step = step.input_value(0 if constants[0] is None else 1).get_node()
    factor = np.float32(1)
    if step.get_type_name() == "Multiply":  # the alpha of a Gemm of ONNX
        constants = [_constant(step.input_value(i)) for i in range(2)]
        factor = next((constant for constant in constants if constant is not None and constant.size == 1), None)
        step = step.input_value(0 if constants[0] is None else 1).get_node()
    is_dense = step.get_type_name() == "MatMul" and factor is not None
    kernel = _constant(step.input_value(1)) if is_dense else None
    if kernel is None or kernel.ndim != 2 or step.get_attributes()["transpose_a"]:
        raise _UnfitError("does not end in a dense layer: set backbone.top to false")
    kernel = kernel.T if step.get_attributes()["transpose_b"] else kernel
    if kernel.shape[1] != CLASSES:
        raise _UnfitError(
            f"has {kernel.shape[1]:,} classes, and only the names of the {CLASSES:,} of ImageNet are known: "
            "set backbone.top to false"
        )
    bias = np.zeros(CLASSES, np.float32) + (0 if bias is None else bias.ravel())
    return step.input_value(0), [kernel * factor.ravel()[:1], bias]


def _constant(tensor: "ov.Output") -> "np.ndarray | None":
    """Return the float32 numbers of a tensor that is a constant; None for any other."""
    import numpy as np

    step = tensor.get_node()
    if step.get_type_name() == "Convert":  # of weights in half precision
        return _constant(step.input_value(0))
    if step.get_type_name() == "Multiply":  # by the beta of a Gemm of ONNX
        parts = [_constant(factor) for factor in step.input_values()]
        return None if any(part is None for part in parts) else parts[0] * parts[1]
    return step.data.astype(np.float32) if step.get_type_name() == "Constant" else None


def _name(end: "ov.Output") -> str:
    return min(end.get_names(), default=end.get_node().get_friendly_name())


def _replace_input(network: "ov.Model", preprocess: str | Sequence) -> Input:
    """Put an input (n, 3, h, w) float32 in the place of the one that a network has."""
    import numpy as np

    from thaw.engines.openvino_setup import ov

    if len(network.inputs) != 1:
        names = ", ".join(map(_name, network.inputs))
        raise _UnfitError(f"has {len(network.inputs)} inputs ({names}): a backbone takes images alone")
    own = network.input()
    shape, dtype = own.get_partial_shape(), own.get_element_type()
    sides = [None if side.is_dynamic else side.get_length() for side in shape] if shape.rank.is_static else []
    text = f"({', '.join('?' if side is None else str(side) for side in sides)})"
    if len(sides) == 4 and sides[1] is None and sides[3] is None:
        sides[1] = 3  # as Hugging Face exports ONNX: in the order of PyTorch
    if len(sides) != 4 or 3 not in (sides[1], sides[3]):
        raise _UnfitError(f"takes {text}, which are no images in colour: these are (n, 3, h, w) or (n, h, w, 3)")
    channels_last = sides[1] != 3
    height, width = sides[1:3] if channels_last else sides[2:]
    if height != width:
        raise _UnfitError(f"takes images of {text}: they should be square, or of any size")
    if dtype == ov.Type.u8 and preprocess != PIXELS:
        raise _UnfitError(f"takes whole numbers: set backbone.preprocess to {PIXELS}")
    if dtype != ov.Type.u8 and not dtype.is_real():
        raise _UnfitError(f"takes {dtype.to_string()}: a backbone takes float32 or uint8")

    image = x = ov.opset13.parameter([-1, 3, height or -1, height or -1], np.float32)
    if channels_last:
        x = ov.opset13.transpose(x, np.array([0, 2, 3, 1]))
    if dtype != ov.Type.f32:
        x = ov.opset13.convert(x, dtype.to_string())
    for reader in own.get_node().output(0).get_target_inputs():
        reader.replace_source_output(x.output(0))
    return Input(image, height, sides[0], channels_last, f"RGB images {text}")


def _compute(tensor: "ov.Output", taken: Input, preprocess: str | Sequence) -> tuple[int, tuple[int, ...]]:
    """Compute the output of a network, and return the size of the images in pixels, and the shape for one of them.

    Two images have to be computed as one is. If the file names no size, it is the first of SIDES that works.
    """
    import numpy as np

    from thaw.engines.openvino_setup import ov, reason

    white, failed = 255 if preprocess == PIXELS else 1, None
    for side in [taken.side] if taken.side else SIDES:
        pixels = np.random.default_rng(1).uniform(0, white, (2, 3, side, side)).astype(np.float32)
        pixels[1] *= 0.3  # darker: a network that mixed both would return something else
        try:
            network = ov.Model([tensor], [taken.image], NAME)
            compiled = ov.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            alone, both = (np.concatenate([compiled(x)[0] for x in np.split(pixels, parts)]) for parts in (2, 1))
        except (RuntimeError, ValueError) as error:  # the second: there is no axis of images
            failed = failed or error
            continue
        limit = MAX_DIFFERENCE * np.abs(alone).max(initial=0)
        if len(both) == 2 and both.shape == alone.shape and not (np.abs(both - alone) > limit).any():
            return side, both.shape[1:]
    if failed and taken.batch is None:
        raise _UnfitError(f"cannot be computed: {reason(failed)}") from failed
    raise _UnfitError(
        f"does not compute each image by itself{f', but {taken.batch} together' if taken.batch else ''}: export it for "
        "inference and for a batch of any size, as with dynamic_axes of torch.onnx.export"
    )


def _as_features(
    tensor: "ov.Output", shape: tuple[int, ...], channels_last: bool, pooling: str | None
) -> "tuple[ov.Node, str]":
    """Return features (n, channels), or maps (n, channels, h, w), float32, that are made of the output of a network.

    Args:
        tensor: the output.
        shape: of the output for one image.
        channels_last: in the network's input; and in maps, if their shape does not say it.
        pooling: of tokens.

    Returns:
        The features or maps, and what they are, as text.

    Raises:
        _UnfitError: the output is neither features, tokens nor square maps.
    """
    import numpy as np

    from thaw.engines.openvino_setup import ov

    steps, text = ov.opset13, f"({', '.join(map(str, ('n', *shape)))})"
    x = tensor if tensor.get_element_type() == ov.Type.f32 else steps.convert(tensor, "f32")
    x = steps.reshape(x, [0] * (len(shape) + 1), special_zero=True)  # OpenVINO may not know yet how many axes there are
    if len(shape) == 1:
        return x, f"is the features, {text}"
    if len(shape) == 2:
        if pooling not in POOLED_TOKENS:
            raise _UnfitError(f"returns tokens {text}: set backbone.pooling to {' or '.join(POOLED_TOKENS)}")
        which = "of which the first is the class token" if pooling.startswith("cls") else "which are all pooled"
        return _pool(x, pooling), f"is {shape[0]} tokens, {text}, {which}, backbone.pooling: {pooling}"
    if pooling not in MAP_POOLINGS:
        raise _UnfitError(f"returns {text}, which has no class token: set backbone.pooling to avg or max")
    is_last, is_first = (len(shape) == 3 and shape[i] == shape[i + 1] for i in range(2))
    if not is_last and not is_first:
        raise _UnfitError(f"returns {text}, neither features, tokens nor square maps")
    pooled = f"which is pooled, backbone.pooling: {pooling}" if pooling else "which is not pooled"
    if is_last and (channels_last or not is_first):
        return steps.transpose(x, np.array([0, 3, 1, 2])), f"is a map of {shape[2]} channels, {text}, {pooled}"
    return x, f"is a map of {shape[0]} channels, {text}, {pooled}"


def _pool(tokens: "ov.Node", pooling: str) -> "ov.Node":
    """Return features (n, channels) of tokens (n, tokens, channels)."""
    import numpy as np

    from thaw.engines.openvino_setup import ov

    steps, axis = ov.opset13, np.array([1])
    if pooling in ("avg", "max"):
        return (steps.reduce_mean if pooling == "avg" else steps.reduce_max)(tokens, axis)
    class_token = steps.gather(tokens, np.int64(0), np.int64(1))
    if pooling == "cls":
        return class_token
    end = np.array([np.iinfo(np.int64).max])
    others = steps.slice(tokens, np.array([1]), end, np.array([1]), axis)
    return steps.concat([class_token, steps.reduce_mean(others, axis)], axis=1)


def _shape_at(network: "ov.Model", side: int) -> list[int]:
    """Return the shape of the output for one image of `side` pixels; empty if there is no image of this size."""
    sized = network.clone()
    try:
        sized.reshape([1, 3, side, side])
    except RuntimeError:
        return []
    return [*sized.output().get_shape()] if sized.output().get_partial_shape().is_static else []


def _files(network: "ov.Model") -> tuple[bytes, bytes]:
    """Return OpenVINO's `.xml` and `.bin` of a network, whose names are removed: they may be those of other networks.

    The same network is the same bytes.
    """
    from thaw.engines import openvino_setup

    for number, step in enumerate(network.get_ordered_ops()):
        step.set_friendly_name(f"{step.get_type_name()}_{number}")
        for output in step.outputs():
            output.get_tensor().set_names(set())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        openvino_setup.write(network, path)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


FAMILY = Family(
    name="a network of your own",
    input_sizes={NAME: SIZE},
    published=(),
    poolings=(*POOLED_TOKENS, None),
    read=read,
    files=(".onnx", ".xml"),
)
