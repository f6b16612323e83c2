"""Vision transformers in layers of Keras: DINOv2, DINOv3, SigLIP 2, ViT and DeiT.

All are the transformer of Dosovitskiy et al. 2021 (arXiv 2010.11929), with a normalisation before each attention and
each MLP. They differ in what stands beside the patches, in how a patch knows its place, and in scales and activations.
Each block is made of layers of its own, so that a network can be cut behind each of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.backbones import hub
from thaw.backbones.base import Family, InputSize
from thaw.backbones.cut_points import FEATURES
from thaw.backbones.keras_applications import DEVIATION, MEAN

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras


@dataclass(frozen=True)
class Architecture:
    """A vision transformer by its numbers."""

    size: int  # pixels of a side, on which it was trained
    patch: int  # pixels of a side
    channels: int
    blocks: int
    heads: int
    prefix: int = 1  # tokens before the patches: the class token, that of distillation, registers
    positions: bool = True  # learned ones are added to the patches
    antialias: bool = False  # how they are interpolated to another size: as the reference does it
    theta: float | None = None  # base of the frequencies of rotary positions; None for none
    layer_scale: bool = False
    attention_pooling: bool = False  # behind the last block, one query attends to all tokens
    activation: str = "gelu"
    gated: bool = False  # the MLP of a block, as in SwiGLU
    epsilon: float = 1e-6
    mlp_ratio: float = 4.0
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION


def network(architecture: Architecture, name: str, top: bool = False) -> "keras.Model":
    """Return a network from (n, h, w, 3) RGB pixels 0-255, h = w, to (n, tokens, channels), its layer `norm`.

    With `attention_pooling`, (n, channels) follow; with `top`, the layer `features`, which is the class token, and
    (n, 1000) probabilities. Random weights come from Keras' global generator.
    """
    from thaw.engines import transformer_layers
    from thaw.engines.keras_setup import keras

    layers, a = keras.layers, architecture
    image = keras.Input((None, None, 3), name="image")
    scale, offset = [1 / 255 / d for d in a.deviation], [-m / d for m, d in zip(a.mean, a.deviation, strict=True)]
    x = layers.Rescaling(scale, offset, name="preprocess")(image)
    x = layers.Conv2D(a.channels, a.patch, a.patch, name="embedding_patches")(x)
    if a.positions:
        x = transformer_layers.PositionEmbedding(a.size // a.patch, a.antialias, name="embedding_positions")(x)
    x = transformer_layers.Tokens(a.prefix, name="embedding_tokens")(x)
    for number in range(1, a.blocks + 1):
        x = _block(x, a, f"block{number}")
    x = layers.LayerNormalization(epsilon=a.epsilon, name="norm")(x)
    if a.attention_pooling:
        x = layers.Dense(2 * a.channels, name="pooling_kv")(x)
        x = transformer_layers.AttentionPooling(a.heads, name="pooling_attention")(x)
        x = shortcut = layers.Dense(a.channels, name="pooling_projection")(x)
        x = layers.LayerNormalization(epsilon=a.epsilon, name="pooling_norm")(x)
        x = layers.Add(name="pooling_add")([shortcut, mlp(x, a, "pooling_mlp")])
    if top:
        x = transformer_layers.TokenPooling("cls", a.prefix, name=FEATURES)(x)
        x = layers.Dense(1000, activation="softmax", name="predictions")(x)
    return keras.Model(image, x, name=name)


def _block(x, a: Architecture, name: str):
    """Add to the tokens their attention, then an MLP of each."""
    from thaw.engines import transformer_layers
    from thaw.engines.keras_setup import keras

    layers, shortcut = keras.layers, x
    x = layers.LayerNormalization(epsilon=a.epsilon, name=f"{name}_norm1")(x)
    x = layers.Dense(3 * a.channels, name=f"{name}_qkv")(x)
    x = transformer_layers.SelfAttention(a.heads, a.prefix, a.theta, name=f"{name}_attention")(x)
    x = layers.Dense(a.channels, name=f"{name}_projection")(x)
    if a.layer_scale:
        x = transformer_layers.LayerScale(name=f"{name}_scale1")(x)
    x = shortcut = layers.Add(name=f"{name}_attention_add")([shortcut, x])
    x = layers.LayerNormalization(epsilon=a.epsilon, name=f"{name}_norm2")(x)
    x = mlp(x, a, f"{name}_mlp")
    if a.layer_scale:
        x = transformer_layers.LayerScale(name=f"{name}_scale2")(x)
    return layers.Add(name=f"{name}_add")([shortcut, x])


def mlp(x, a: Architecture, name: str):
    """Add two dense layers. In a gated network, the first is multiplied by another one with the activation."""
    from thaw.engines import transformer_layers
    from thaw.engines.keras_setup import keras

    activation = transformer_layers.gelu_tanh if a.activation == "gelu_tanh" else a.activation
    width = round(a.channels * a.mlp_ratio)
    if a.gated:
        gate = keras.layers.Dense(width, activation=activation, name=f"{name}_gate")(x)
        x = keras.layers.Multiply(name=f"{name}_product")([gate, keras.layers.Dense(width, name=f"{name}1")(x)])
    else:
        x = keras.layers.Dense(width, activation=activation, name=f"{name}1")(x)
    return keras.layers.Dense(a.channels, name=f"{name}2")(x)


SIZES = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}  # channels, blocks, heads
WORDS = {"Ti": "tiny", "S": "small", "B": "base", "L": "large"}
HALF = {"mean": (0.5,) * 3, "deviation": (0.5,) * 3}
ROTARY = {"prefix": 5, "positions": False, "theta": 100.0, "layer_scale": True, "epsilon": 1e-5}
GATED = {"gated": True, "activation": "silu"}
SIGLIP = HALF | {"prefix": 0, "activation": "gelu_tanh", "attention_pooling": True}
OF_PATCHES, WITH_CLASS_TOKEN = ("avg", "max", None), ("avg", "max", "cls", "cls_avg", None)

Published = Mapping[str, tuple[Architecture, str]]  # of a backbone: its numbers; its repository on the Hub, for `{}`


def _load(network: "keras.Model", path: Path) -> None:
    from thaw.backbones import transformer_weights  # imports NumPy

    transformer_weights.load(network, path)


def _family(
    name: str,
    published: Published,
    weights: Mapping[str, str],
    licence: str,
    poolings: tuple[str | None, ...],
    has_classes: bool = False,
) -> Family:
    """Return a family of backbones.

    Args:
        name: As error messages call it.
        published: Its backbones by name.
        weights: What each name of published weights adds to the repository's, in place of `{}`.
        licence: Of these weights.
        poolings: The values of `backbone.pooling` that the backbones have.
        has_classes: Some of the weights have the 1000 classes of ImageNet.
    """
    architectures = {backbone: architecture for backbone, (architecture, _) in published.items()}
    (prefix,) = {architecture.prefix for architecture in architectures.values()}

    def build(backbone: str, _: bool, top: bool = False) -> "keras.Model":
        return network(architectures[backbone], backbone, top)

    return Family(
        name=name,
        input_sizes={backbone: InputSize(a.size, a.patch, a.patch) for backbone, a in architectures.items()},
        build=build,
        build_with_top=partial(build, top=True) if has_classes else None,
        top_pooling="cls",
        last_map="norm",
        readers={".safetensors": _load},
        published=tuple(weights),
        fetch=lambda backbone, weight: hub.fetch(published[backbone][1].format(weights[weight])),
        prefix=prefix,
        poolings=poolings,
        licence=licence,
    )


# Of ViT, DeiT and SigLIP 2, timm has the file: it is in the format safetensors, and has the part for images alone.
FAMILIES = (
    _family(
        "DINOv2",
        {
            f"DINOv2{size}14": (
                Architecture(518, 14, *SIZES[size], layer_scale=True), f"facebook/dinov2-{WORDS[size]}",
            )
            for size in "SBL"
        },
        {"lvd142m": ""},
        "Apache-2.0",
        WITH_CLASS_TOKEN,
    ),
    _family(
        "DINOv2 with registers",
        {
            f"DINOv2{size}14Registers": (
                Architecture(518, 14, *SIZES[size], prefix=5, layer_scale=True, antialias=True),
                f"facebook/dinov2-with-registers-{WORDS[size]}",
            )
            for size in "SBL"
        },
        {"lvd142m": ""},
        "Apache-2.0",
        WITH_CLASS_TOKEN,
    ),
    _family(
        "DINOv3",
        {
            f"DINOv3{size}16": (
                Architecture(224, 16, *SIZES[size[0]], **ROTARY, **(GATED if size == "SPlus" else {})),
                f"facebook/dinov3-vit{size[0].lower()}16{size[1:].lower()}-pretrain-lvd1689m",
            )
            for size in ("S", "SPlus", "B", "L")
        },
        {"lvd1689m": ""},
        "the DINOv3 License of Meta",
        WITH_CLASS_TOKEN,
    ),
    _family(
        "SigLIP 2",
        {
            f"SigLIP2{size}16": (
                Architecture(pixels, 16, *SIZES[size], **SIGLIP),
                f"timm/vit_{WORDS[size]}_patch16_siglip_{pixels}.v2_webli",
            )
            for size, pixels in (("B", 224), ("L", 256))
        },
        {"webli": ""},
        "Apache-2.0",
        (*OF_PATCHES, "attention"),
    ),
    _family(
        "ViT",
        {
            f"ViT{size}16": (Architecture(224, 16, *SIZES[size], **HALF), f"timm/vit_{WORDS[size]}_patch16_224.{{}}")
            for size in SIZES
        },
        {"imagenet": "augreg_in21k_ft_in1k", "imagenet21k": "augreg_in21k"},
        "Apache-2.0",
        WITH_CLASS_TOKEN,
        has_classes=True,
    ),
    _family(
        "DeiT",
        {
            f"DeiT{size}16": (Architecture(224, 16, *SIZES[size]), f"timm/deit_{WORDS[size]}_patch16_224.fb_in1k")
            for size in ("Ti", "S", "B")
        },
        {"imagenet": ""},
        "Apache-2.0",
        WITH_CLASS_TOKEN,
        has_classes=True,
    ),
)  # fmt: skip
