"""Weights of vision transformers from files of Hugging Face, timm and the authors, in the format safetensors.

Their layouts name the same tensors in different ways. Here each gets the name of the layer that it belongs to, such as
`block1_norm1.weight`. Then each layer takes what it needs. What no layer takes belongs to another network.
"""

import contextlib
import json
import re
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thaw.core.errors import ThawError

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras

PREFIX = re.compile(r"^(vit|deit|dinov2|dinov2_with_registers|dinov3_vit|model|vision_model|backbone|encoder)\.")
BLOCK = re.compile(r"^(?:layers?|blocks)\.(\d+)\.(.*)$")
BLOCK_PARTS = {
    "norm1": ("norm1", "layernorm_before", "layer_norm1"),
    "qkv": ("attn.qkv",),
    "query": ("attention.attention.query", "attention.q_proj", "self_attn.q_proj", "attn.q"),
    "key": ("attention.attention.key", "attention.k_proj", "self_attn.k_proj"),
    "value": ("attention.attention.value", "attention.v_proj", "self_attn.v_proj", "attn.v"),
    "projection": ("attn.proj", "attention.output.dense", "attention.o_proj", "self_attn.out_proj"),
    "scale1": ("ls1.gamma", "layer_scale1.lambda1", "gamma_1"),
    "norm2": ("norm2", "layernorm_after", "layer_norm2"),
    "mlp_gate": ("mlp.fc1_g", "mlp.gate_proj"),
    "mlp1": ("mlp.fc1", "intermediate.dense", "mlp.up_proj", "mlp.fc1_x"),
    "mlp2": ("mlp.fc2", "output.dense", "mlp.down_proj"),
    "scale2": ("ls2.gamma", "layer_scale2.lambda1", "gamma_2"),
}
PARTS = {
    "class_token": ("cls_token", "embeddings.cls_token"),
    "distillation_token": ("dist_token", "embeddings.distillation_token"),
    "registers": ("reg_token", "register_tokens", "embeddings.register_tokens"),
    "positions": ("pos_embed", "embeddings.position_embeddings", "embeddings.position_embedding.weight"),
    "embedding_patches": (
        "patch_embed.proj", "embeddings.patch_embeddings.projection", "embeddings.patch_embeddings",
        "embeddings.patch_embedding",
    ),
    "norm": ("norm", "layernorm", "post_layernorm"),
    "predictions": ("head", "classifier", "cls_classifier"),
    "pooling_query": ("head.probe", "attn_pool.latent"),
    "pooling_qkv": ("head.attention.in_proj",),
    "pooling_q": ("attn_pool.q",),
    "pooling_kv": ("attn_pool.kv",),
    "pooling_projection": ("head.attention.out_proj", "attn_pool.proj"),
    "pooling_norm": ("head.layernorm", "attn_pool.norm"),
    "pooling_mlp1": ("head.mlp.fc1", "attn_pool.mlp.fc1"),
    "pooling_mlp2": ("head.mlp.fc2", "attn_pool.mlp.fc2"),
}  # fmt: skip
# No feature depends on these: masks and poolers of the training, other heads, the network for texts.
UNUSED = re.compile(
    r"mask_token|(^|\.)pooler\.|^distillation_classifier|^head_dist|text_model\.|^logit_|rope_embeddings|position_ids"
)


def load(network: "keras.Model", path: Path) -> None:
    """Give a network of `vision_transformer` the weights of a file.

    Raises ThawError if the file is damaged, or if these are the weights of another network.
    """
    tensors = read(path)
    try:
        state = State(path, tensors)
    except ValueError as error:
        raise ThawError(f"{path} has the weights of another network: they do not fit each other ({error})") from error
    for layer in network.layers:
        if layer.name == "embedding_positions":
            layer.set_weights([_resized(state.take(layer.name), layer.grid)])
        elif layer.weights:
            layer.set_weights(_values(layer, state))
    state.check_end(network.name)
    _compare_heads(network, path.parent)
    _take_pixels(network, path.parent)


def _compare_heads(network: "keras.Model", folder: Path) -> None:
    """Raise ThawError if the file beside the weights has another number of heads: no shape of a tensor tells it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # what is not there says nothing
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        values = values.get("vision_config", values)  # of a network for texts, too
        heads, own = values.get("num_attention_heads"), network.get_layer("block1_attention").heads
        if heads not in (None, own):
            text = f"its config.json has {heads} heads, {network.name} has {own}"
            raise ThawError(f"{folder} has the weights of another network: {text}")


def _take_pixels(network: "keras.Model", folder: Path) -> None:
    """Scale pixels as a file beside the weights says, if it gives another mean and deviation than the network does."""
    layer = network.get_layer("preprocess")
    deviation = 1 / (255 * np.array(layer.scale))
    own = [(-np.array(layer.offset) * deviation).round(3).tolist(), deviation.round(3).tolist()]
    for name in ("preprocessor_config.json", "config.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):  # what is not there says nothing
            values = json.loads((folder / name).read_text(encoding="utf-8"))
            values = values.get("pretrained_cfg", values)  # timm's
            theirs = [values.get("image_mean") or values.get("mean"), values.get("image_std") or values.get("std")]
            if np.shape(theirs) == (2, 3) and not np.allclose(theirs, own, atol=1e-3):
                mean, deviation = np.array(theirs, float)
                layer.scale, layer.offset = (1 / 255 / deviation).tolist(), (-mean / deviation).tolist()
                print(f"backbone: mean and deviation of pixels are those of {name} beside the weights, {theirs[0]} and "
                      f"{theirs[1]}; the published {network.name} has {own[0]} and {own[1]}")  # fmt: skip
                return


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file, float32, by their names in it; raises ThawError if it is damaged."""
    import safetensors
    from ml_dtypes import bfloat16

    try:
        content = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ThawError(f"{path} is damaged, or no file of safetensors: {error}") from error
    dtypes = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": bfloat16}
    return {
        name: np.frombuffer(tensor["data"], dtypes[tensor["dtype"]]).reshape(tensor["shape"]).astype(np.float32)
        for name, tensor in content
        if tensor["dtype"] in dtypes  # the others are counters
    }


class State:
    """The tensors of a file, by the layers that they belong to, until a layer takes them. They are in PyTorch's layout.

    What has another form in some layouts is brought into one: queries, keys and values side by side; the tokens before
    the patches, with the positions of those that have one; the positions of the patches, (grid, grid, channels).
    """

    def __init__(self, path: Path, tensors: dict[str, np.ndarray]):
        self.path = path
        used = {}
        for name in tensors:
            if not UNUSED.search(name):
                if other := used.get(layer_name(name)):
                    raise ValueError(f"{other} and {name} are the same tensor of a network")
                used[layer_name(name)] = name
        self._names = dict(used)  # in the file, for errors
        self._tensors = {layer: tensors[name] for layer, name in used.items()}
        for name in used:
            if name.endswith(("_query.weight", "_qkv.weight")):
                self._join(name.rpartition("_")[0])
        if "pooling_query" in self:
            self._project_query()
        self._embed()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Return a tensor and remove it; raises ThawError if there is none, or if it has another shape."""
        if name not in self:
            raise ThawError(f"{self.path} has the weights of another network: it has no {name}")
        values = self._tensors.pop(name)
        if shape not in (None, values.shape):
            raise ThawError(
                f"{self.path} has the weights of another network: {self._names.get(name, name)} in it has "
                f"{values.shape}, and layer {name.partition('.')[0]} needs {shape}"
            )
        return values

    def check_end(self, network: str) -> None:
        """Raise ThawError if a tensor is left that no layer took."""
        for name in self._tensors:
            if name.startswith("predictions."):
                continue  # a network without its classes
            raise ThawError(f"{self.path} has the weights of another network: {network} has no {self._names[name]}")

    def _join(self, block: str) -> None:
        """Put queries, keys and values of a block side by side. What has no bias gets zeros."""
        parts = [f"{block}_{part}" for part in ("query", "key", "value")]
        joined = f"{block}_qkv"
        if f"{joined}.weight" not in self:
            self._tensors[f"{joined}.weight"] = np.concatenate([self.take(f"{part}.weight") for part in parts])
        if f"{joined}.bias" not in self:
            zeros = np.zeros(len(self._tensors[f"{joined}.weight"]) // 3, np.float32)
            biases = [self._tensors.pop(f"{part}.bias", zeros) for part in parts]
            self._tensors[f"{joined}.bias"] = np.concatenate(biases)

    def _project_query(self) -> None:
        """Compute the query of the pooling: it is learned, and then projected, which is the same for all images."""
        for kind in ("weight", "bias"):
            if f"pooling_qkv.{kind}" in self:
                joined = self.take(f"pooling_qkv.{kind}")
                parts = np.split(joined, [len(joined) // 3])
                self._tensors[f"pooling_q.{kind}"], self._tensors[f"pooling_kv.{kind}"] = parts
        learned = self.take("pooling_query").ravel()
        self._tensors["pooling_attention"] = self.take("pooling_q.weight") @ learned + self.take("pooling_q.bias")

    def _embed(self) -> None:
        names = [name for name in ("class_token", "distillation_token", "registers") if name in self]
        tokens = [self.take(name) for name in names]
        channels = self._tensors["norm.weight"].size if "norm.weight" in self else 0
        prefix = np.concatenate([np.empty((0, channels)), *(token.reshape(-1, token.shape[-1]) for token in tokens)])
        if "positions" in self:
            positions = self.take("positions")
            positions = positions.reshape(-1, positions.shape[-1])
            side = isqrt(len(positions))
            placed = len(positions) - side * side  # tokens before the patches that have a position
            prefix[:placed] += positions[:placed]
            self._tensors["embedding_positions"] = positions[placed:].reshape(side, side, -1)
        self._tensors["embedding_tokens"] = prefix.astype(np.float32)


def layer_name(name: str) -> str:
    """Return the layer of a tensor and what it is there, such as `block1_norm1.weight`, from its name in any layout."""
    while stripped := PREFIX.match(name):
        name = name[stripped.end() :]
    block = BLOCK.match(name)
    parts, rest, layer = (BLOCK_PARTS, block[2], f"block{int(block[1]) + 1}_") if block else (PARTS, name, "")
    for part, others in parts.items():
        for other in others:
            if match := re.fullmatch(rf"{re.escape(other)}(?:[._](weight|bias))?", rest):
                return f"{layer}{part}" + (f".{match[1]}" if match[1] else "")
    return name


def _values(layer: "keras.layers.Layer", state: State) -> list[np.ndarray]:
    """Return the weights of a layer, in Keras' layout and order."""
    shapes = [tuple(variable.shape) for variable in layer.weights]
    if len(shapes) == 1:
        return [state.take(layer.name, shapes[0])]
    axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[len(shapes[0])]  # of Keras' kernel, in PyTorch's order
    kernel = state.take(f"{layer.name}.weight", tuple(shapes[0][axis] for axis in axes))
    return [kernel.transpose(np.argsort(axes)), state.take(f"{layer.name}.bias", shapes[1])]


def _resized(positions: np.ndarray, grid: int) -> np.ndarray:
    """Return the positions (side, side, channels) for a grid, interpolated if it has another side."""
    from thaw.engines.transformer_layers import bicubic

    side = len(positions)
    if side == grid:
        return positions
    lost = ": larger images get them back without their detail" if side > grid else ""
    print(f"backbone: the positions of {side} × {side} patches in the file are interpolated to {grid} × {grid}{lost}")
    weights = bicubic(grid, side)
    return np.einsum("hi,wj,ijc->hwc", weights, weights, positions)
