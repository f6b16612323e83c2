"""The layers of vision transformers that Keras does not have, as layers of Keras.

Tokens are (n, tokens, channels): first the prefix (the class token and the registers, if a network has them), then the
patches of a square image, row by row. So the side of the grid of patches follows from the number of tokens, and a
network can be cut between any two blocks.
"""

from math import isqrt

import numpy as np

from thaw.engines.keras_setup import keras

ops = keras.ops
CUBIC = -0.75  # the coefficient of bicubic interpolation in PyTorch, with which the references resize embeddings
Shape = tuple[int | None, ...]


def grid_side(tokens: int, prefix: int) -> int:
    """Return the side of the square grid of patches; raises ValueError if they make no square."""
    side = isqrt(tokens - prefix)
    if side * side != tokens - prefix:
        raise ValueError(f"{tokens - prefix} patches are not those of a square image")
    return side


def bicubic(size: int, grid: int, antialias: bool = False) -> np.ndarray:
    """Return the (size, grid) float32 weights by which `size` places interpolate `grid` values.

    As `torch.nn.functional.interpolate` with `mode="bicubic"`, and `antialias`. Without it, values beyond an edge are
    those of the edge. With it, the coefficient is another, and the weights of places beyond an edge are left out.
    """
    coefficient, step = (-0.5, max(1, grid / size)) if antialias else (CUBIC, 1)
    place = (np.arange(size)[:, None] + 0.5) * grid / size - 0.5
    reach = int(2 * step) + 1
    taps = np.floor(place).astype(int) + np.arange(-reach, reach + 2)
    weights = _cubic(np.abs(place - taps) / step, coefficient)
    if antialias:
        weights *= (taps >= 0) & (taps < grid)
    result = np.zeros((size, grid))
    np.add.at(result, (np.arange(size)[:, None], taps.clip(0, grid - 1)), weights)
    return (result / result.sum(axis=1, keepdims=True)).astype(np.float32)


def _cubic(distance: np.ndarray, coefficient: float) -> np.ndarray:
    """Return the weights of values at distances of 0 or more, after Keys 1981; they are 0 from 2 on."""
    near = ((coefficient + 2) * distance - (coefficient + 3)) * distance**2 + 1
    far = coefficient * (((distance - 5) * distance + 8) * distance - 4)
    return np.select([distance <= 1, distance < 2], [near, far], 0.0)


def rotations(side: int, width: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines and sines (side * side, width) float32 by which DINOv3 rotates queries and keys.

    A pair of numbers is rotated by the place of its patch, from -1 to 1 along an axis of the image, times a frequency.
    """
    place = 2 * (np.arange(side) + 0.5) / side - 1
    places = np.stack(np.meshgrid(place, place, indexing="ij"), -1).reshape(-1, 2, 1)
    angles = 2 * np.pi * places / theta ** np.arange(0, 1, 4 / width)
    angles = np.tile(angles.reshape(len(angles), -1), 2)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@keras.saving.register_keras_serializable("thaw")
def gelu_tanh(x):
    """The approximation of GELU by a hyperbolic tangent."""
    return keras.activations.gelu(x, approximate=True)


class _Layer(keras.layers.Layer):
    """A layer whose arguments are attributes of the same names, listed in `arguments`."""

    arguments: tuple[str, ...] = ()

    def get_config(self) -> dict:
        return super().get_config() | {name: getattr(self, name) for name in self.arguments}


@keras.saving.register_keras_serializable("thaw")
class PositionEmbedding(_Layer):
    """Adds an embedding to each place of a map (n, h, w, channels).

    The embeddings, (grid, grid, channels), are interpolated if the map has another size, see `bicubic`.
    """

    arguments = ("grid", "antialias")

    def __init__(self, grid: int, antialias: bool = False, **options):
        super().__init__(**options)
        self.grid, self.antialias = grid, antialias

    def build(self, shape: Shape) -> None:
        self.embedding = self.add_weight((self.grid, self.grid, shape[-1]), "random_normal", name="embedding")

    def call(self, x):
        embedding = self.embedding
        for axis, size in enumerate(x.shape[1:3]):
            if size != self.grid:
                along = ops.tensordot(bicubic(size, self.grid, self.antialias), embedding, axes=(1, axis))
                embedding = along if axis == 0 else ops.transpose(along, (1, 0, 2))
        return x + embedding

    def compute_output_shape(self, shape: Shape) -> Shape:
        return shape


@keras.saving.register_keras_serializable("thaw")
class Tokens(_Layer):
    """Makes tokens of a map (n, h, w, channels): `prefix` learned ones, then its places, row by row."""

    arguments = ("prefix",)

    def __init__(self, prefix: int, **options):
        super().__init__(**options)
        self.prefix = prefix

    def build(self, shape: Shape) -> None:
        self.tokens = self.add_weight((self.prefix, shape[-1]), "random_normal", name="tokens")

    def call(self, x):
        patches = ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))
        tokens = ops.broadcast_to(self.tokens, (ops.shape(x)[0], self.prefix, x.shape[3]))
        return ops.concatenate([tokens, patches], axis=1)

    def compute_output_shape(self, shape: Shape) -> Shape:
        n, h, w, channels = shape
        return n, None if None in (h, w) else self.prefix + h * w, channels


@keras.saving.register_keras_serializable("thaw")
class SelfAttention(_Layer):
    """Scaled dot-product attention between tokens.

    It takes queries, keys and values side by side, (n, tokens, 3 * channels), and returns (n, tokens, channels). With
    `theta`, the base of the frequencies, the queries and keys of patches are rotated, see `rotations`.
    """

    arguments = ("heads", "prefix", "theta")

    def __init__(self, heads: int, prefix: int = 0, theta: float | None = None, **options):
        super().__init__(**options)
        self.heads, self.prefix, self.theta = heads, prefix, theta

    def call(self, x):
        tokens, width = x.shape[1], x.shape[2] // 3 // self.heads
        split = [ops.reshape(part, (-1, tokens, self.heads, width)) for part in ops.split(x, 3, axis=-1)]
        query, key, value = (ops.transpose(part, (0, 2, 1, 3)) for part in split)
        if self.theta:
            cosines, sines = rotations(grid_side(tokens, self.prefix), width, self.theta)
            query, key = (self._rotated(part, cosines, sines) for part in (query, key))
        weights = ops.softmax(ops.matmul(query * width**-0.5, ops.transpose(key, (0, 1, 3, 2))))
        mixed = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        return ops.reshape(mixed, (-1, tokens, self.heads * width))

    def _rotated(self, x, cosines: np.ndarray, sines: np.ndarray):
        prefix, patches = x[:, :, : self.prefix], x[:, :, self.prefix :]
        first, second = ops.split(patches, 2, axis=-1)
        patches = patches * cosines + ops.concatenate([-second, first], axis=-1) * sines
        return ops.concatenate([prefix, patches], axis=2)

    def compute_output_shape(self, shape: Shape) -> Shape:
        return *shape[:2], shape[2] // 3


@keras.saving.register_keras_serializable("thaw")
class LayerScale(_Layer):
    """Multiplies each channel by a learned factor."""

    def build(self, shape: Shape) -> None:
        self.gamma = self.add_weight((shape[-1],), "ones", name="gamma")

    def call(self, x):
        return x * self.gamma

    def compute_output_shape(self, shape: Shape) -> Shape:
        return shape


@keras.saving.register_keras_serializable("thaw")
class AttentionPooling(_Layer):
    """The attention of one learned query to all tokens.

    It takes keys and values side by side, (n, tokens, 2 * channels), and returns (n, channels).
    """

    arguments = ("heads",)

    def __init__(self, heads: int, **options):
        super().__init__(**options)
        self.heads = heads

    def build(self, shape: Shape) -> None:
        self.query = self.add_weight((shape[-1] // 2,), "random_normal", name="query")

    def call(self, x):
        tokens, width = x.shape[1], x.shape[2] // 2 // self.heads
        split = [ops.reshape(part, (-1, tokens, self.heads, width)) for part in ops.split(x, 2, axis=-1)]
        key, value = (ops.transpose(part, (0, 2, 1, 3)) for part in split)
        query = ops.reshape(self.query * width**-0.5, (self.heads, width, 1))
        weights = ops.softmax(ops.matmul(key, query), axis=2)
        return ops.reshape(ops.sum(weights * value, axis=2), (-1, self.heads * width))

    def compute_output_shape(self, shape: Shape) -> Shape:
        return shape[0], shape[2] // 2


@keras.saving.register_keras_serializable("thaw")
class TokenPooling(_Layer):
    """Makes features (n, channels) of tokens.

    `kind` is `avg` or `max`, over the patches; `cls`, the class token; `cls_avg`, this one and the mean side by side;
    or None: the patches as a map (n, side, side, channels).
    """

    arguments = ("kind", "prefix")

    def __init__(self, kind: str | None, prefix: int, **options):
        super().__init__(**options)
        self.kind, self.prefix = kind, prefix

    def call(self, x):
        class_token, patches = x[:, 0], x[:, self.prefix :]
        if self.kind is None:
            side = grid_side(x.shape[1], self.prefix)
            return ops.reshape(patches, (-1, side, side, x.shape[2]))
        if self.kind == "max":
            return ops.max(patches, axis=1)
        if self.kind == "cls":
            return class_token
        mean = ops.mean(patches, axis=1)
        return ops.concatenate([class_token, mean], axis=-1) if self.kind == "cls_avg" else mean

    def compute_output_shape(self, shape: Shape) -> Shape:
        n, tokens, channels = shape
        if self.kind is None:
            side = None if tokens is None else grid_side(tokens, self.prefix)
            return n, side, side, channels
        return n, channels * (2 if self.kind == "cls_avg" else 1)
