"""Tiny vision transformers with random weights, saved and run by `transformers` and `timm`: the tests compare with them
what Thaw reads and computes (`tests/data/transformers/`, whose README.md has the layouts).

    python reference_transformers.py [FOLDER] [--only NAME ...]

Needs `torch`, `transformers` and `timm`, which Thaw does not install; `transformers.txt` beside this file has them with
hashes (`uv pip compile --universal --generate-hashes --python-version 3.11 benchmarks/peers/transformers.in`). Uses no
network. Each model gets a folder with `model.safetensors` and `config.json` as `save_pretrained` or
`timm.models.save_for_hf` writes them, and `reference.npz`:

    images, images_larger, images_smaller   (n, size, size, 3) uint8, red, green, blue: before any pre-processing
    tokens, tokens_larger, tokens_smaller   what the last block gives, after the final normalisation
    block1                                  what the first block gives, of `images`
    features, features_larger, …            as the reference pools them, before a classifier
    logits, logits_larger, …                of the models with a classifier

Native is two images of 4 × 4 patches of 4 pixels, larger one of 6 × 6, smaller one of 3 × 3. Every tensor is drawn from
a generator whose seed is the model's name, so that a layer scale of one, a bias of zero or a mask token that does
nothing cannot hide a mistake. The same versions give the same bytes.

`positions.npz` has one grid of 37 × 37 positions (518 pixels, as DINOv2 was trained) and what the three ways of
resampling make of it at 16 × 16 and at 40 × 40.
"""

import argparse
import functools
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
import transformers
from timm.models import save_for_hf
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

FOLDER = Path(__file__).parents[2] / "tests" / "data" / "transformers"
WIDTH, BLOCKS, HEADS, MLP_RATIO, PATCH, REGISTERS, CLASSES = 24, 2, 2, 2, 4, 4, 10
SIZES = {"": 16, "_larger": 24, "_smaller": 12}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

Outputs = dict[str, torch.Tensor]
Case = tuple[torch.nn.Module, tuple, Callable[[torch.nn.Module, torch.Tensor], Outputs]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    for name, build in CASES.items():
        if not arguments.only or name in arguments.only:
            write(name, build(), arguments.folder / name)
    if not arguments.only:
        write_positions(arguments.folder / "positions.npz")


def write(name: str, case: Case, folder: Path) -> None:
    model, (mean, std), run = case
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    for parameter, values in model.named_parameters():
        values.copy_(draw(parameter, values, generator))
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    save(model, folder, mean, std)
    arrays = {}
    for suffix, size in SIZES.items():
        count = 1 if suffix else 2
        images = torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)
        pixels = (images.float() / 255 - torch.tensor(mean)) / torch.tensor(std)
        outputs = run(model, pixels.permute(0, 3, 1, 2).contiguous())
        arrays[f"images{suffix}"] = images.numpy()
        if suffix:
            outputs.pop("block1")
        arrays |= {key + suffix: value.numpy() for key, value in outputs.items()}
    np.savez_compressed(folder / "reference.npz", **arrays)
    print(name, {key: value.shape for key, value in arrays.items()})


def write_positions(file: Path) -> None:
    grid = torch.randn((1, 1, 37, 37), generator=torch.Generator().manual_seed(37))
    arrays = {"grid": grid}
    for side in (16, 40):
        bicubic = functools.partial(torch.nn.functional.interpolate, grid, mode="bicubic")
        arrays[f"plain_{side}"] = bicubic(size=(side, side))  # DINOv2, ViT, DeiT and SigLIP in transformers
        arrays[f"antialias_{side}"] = bicubic(size=(side, side), antialias=True)  # with registers; everything in timm
        scale = (side + 0.1) / 37
        arrays[f"offset_{side}"] = bicubic(scale_factor=(scale, scale))  # facebookresearch/dinov2 without registers
    np.savez_compressed(file, **{name: values[0, 0].numpy() for name, values in arrays.items()})


def draw(name: str, values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random values of a spread that keeps the activations near one and lets every tensor matter."""
    noise = torch.randn(values.shape, generator=generator)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.2 * noise
    if any(part in name for part in ("lambda1", "gamma")):
        return 0.7 + 0.3 * noise
    if name.endswith("bias"):
        return 0.2 * noise
    if values.ndim in (2, 4) and "position" not in name and "mask" not in name:
        sharp = 1.5 if any(part in name for part in ("query", "key", "q_proj", "k_proj", "qkv", "in_proj")) else 1.0
        return sharp * noise / values[0].numel() ** 0.5
    return 0.5 * noise


def save(model: torch.nn.Module, folder: Path, mean: tuple, std: tuple) -> None:
    if isinstance(model, transformers.PreTrainedModel):
        model.save_pretrained(folder)
        processor = {"image_mean": mean, "image_std": std, "rescale_factor": 1 / 255}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
        (folder / "generation_config.json").unlink(missing_ok=True)
        return
    cfg = {"architecture": model.tiny_architecture, "input_size": (3, 16, 16), "num_classes": model.num_classes}
    model.pretrained_cfg = cfg | {"mean": mean, "std": std, "fixed_input_size": True}
    save_for_hf(model, str(folder), model_args=model.tiny_args, safe_serialization=True)


# transformers ---------------------------------------------------------------------------------------------------------


def hf(model_class: str, config: object, statistics: tuple, blocks: str, free: bool = True) -> Case:
    """A model of `transformers`; `blocks` is where its blocks are, and `free` says that it takes any size unasked."""
    model = getattr(transformers, model_class)(config)

    def run(model: torch.nn.Module, pixels: torch.Tensor) -> Outputs:
        found = {}
        hook = watch(model.get_submodule(blocks)[0], found)
        options = {} if free else {"interpolate_pos_encoding": True}
        if model_class == "SiglipModel":
            output = model.vision_model(pixels, **options)
        else:
            classifies = "Classification" in model_class
            output = (model.base_model if classifies else model)(pixels, **options)
            if classifies:
                found["logits"] = model(pixels, **options).logits
        hook.remove()
        found["tokens"] = output.last_hidden_state
        if output.pooler_output is not None:
            found["features"] = output.pooler_output
        return found

    return model, statistics, run


def watch(block: torch.nn.Module, found: Outputs) -> torch.utils.hooks.RemovableHandle:
    def note(_: torch.nn.Module, __: tuple, output: torch.Tensor | tuple) -> None:
        found["block1"] = (output[0] if isinstance(output, tuple) else output).clone()

    return block.register_forward_hook(note)


COMMON = {
    "hidden_size": WIDTH,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "image_size": SIZES[""],
    "patch_size": PATCH,
}
PLAIN = COMMON | {"intermediate_size": MLP_RATIO * WIDTH}


def siglip_config() -> transformers.SiglipConfig:
    text = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    text |= {"num_attention_heads": HEADS, "max_position_embeddings": 4, "projection_size": WIDTH}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    return transformers.SiglipConfig(text_config=text, vision_config=dict(PLAIN))


# timm -----------------------------------------------------------------------------------------------------------------


def of_timm(architecture: str, statistics: tuple, maker: type = VisionTransformer, **differing) -> Case:
    """A model of `timm` that differs from the published `architecture` in its size only."""
    published = {"embed_dim": WIDTH, "depth": BLOCKS, "num_heads": HEADS, "mlp_ratio": MLP_RATIO, "patch_size": PATCH}
    options = {"img_size": SIZES[""], "num_classes": 0} | published | differing
    model = maker(**options, dynamic_img_size=True)
    model.tiny_architecture = architecture
    model.tiny_args = {key: value for key, value in options.items() if isinstance(value, (int, float, str, bool))}

    def run(model: torch.nn.Module, pixels: torch.Tensor) -> Outputs:
        found = {}
        hook = watch(model.blocks[0], found)
        found["tokens"] = model.forward_features(pixels)
        hook.remove()
        found["features"] = model.forward_head(found["tokens"], pre_logits=True)
        if model.num_classes:
            found["logits"] = model.forward_head(found["tokens"])
        return found

    return model, statistics, run


DINOV3 = {
    "qkv_bias": False,
    "init_values": 1e-5,
    "rope_type": "dinov3",
    "rope_temperature": 100,
    "rope_rotate_half": True,
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "num_reg_tokens": REGISTERS,
    "use_fc_norm": False,
    "norm_layer": functools.partial(timm.layers.LayerNorm, eps=1e-5),
}
LABELS = {"num_labels": CLASSES}

CASES: dict[str, Callable[[], Case]] = {
    "hf_dinov2": lambda: hf(
        "Dinov2Model", transformers.Dinov2Config(**COMMON, mlp_ratio=MLP_RATIO), IMAGENET, "encoder.layer"
    ),
    "hf_dinov2_with_registers": lambda: hf(
        "Dinov2WithRegistersModel",
        transformers.Dinov2WithRegistersConfig(**COMMON, mlp_ratio=MLP_RATIO, num_register_tokens=REGISTERS),
        IMAGENET,
        "encoder.layer",
    ),
    "hf_dinov3": lambda: hf(
        "DINOv3ViTModel",
        transformers.DINOv3ViTConfig(**PLAIN, num_register_tokens=REGISTERS),
        IMAGENET,
        DINOV3_BLOCKS,
    ),
    "hf_dinov3_plus": lambda: hf(
        "DINOv3ViTModel",
        transformers.DINOv3ViTConfig(**PLAIN, num_register_tokens=REGISTERS, use_gated_mlp=True, hidden_act="silu"),
        IMAGENET,
        DINOV3_BLOCKS,
    ),
    "hf_siglip": lambda: hf("SiglipModel", siglip_config(), HALF, "vision_model.encoder.layers", free=False),
    "hf_siglip_vision": lambda: hf(
        "SiglipVisionModel", transformers.SiglipVisionConfig(**PLAIN), HALF, SIGLIP_BLOCKS, free=False
    ),
    "hf_vit": lambda: hf("ViTModel", transformers.ViTConfig(**PLAIN), HALF, VIT_BLOCKS, free=False),
    "hf_vit_classifier": lambda: hf(
        "ViTForImageClassification", transformers.ViTConfig(**PLAIN, **LABELS), HALF, f"vit.{VIT_BLOCKS}", free=False
    ),
    "hf_deit_classifier": lambda: hf(
        "ViTForImageClassification",
        transformers.ViTConfig(**PLAIN, **LABELS),
        IMAGENET,
        f"vit.{VIT_BLOCKS}",
        free=False,
    ),
    "hf_deit_distilled": lambda: hf(
        "DeiTForImageClassificationWithTeacher",
        transformers.DeiTConfig(**PLAIN, **LABELS),
        IMAGENET,
        f"deit.{VIT_BLOCKS}",
        free=False,
    ),
    "timm_vit_classifier": lambda: of_timm("vit_small_patch16_224", HALF, num_classes=CLASSES),
    "timm_deit_classifier": lambda: of_timm("deit_tiny_patch16_224", IMAGENET, num_classes=CLASSES),
    "timm_deit_distilled": lambda: of_timm(
        "deit_tiny_distilled_patch16_224", IMAGENET, VisionTransformerDistilled, num_classes=CLASSES
    ),
    "timm_dinov2": lambda: of_timm("vit_small_patch14_dinov2", IMAGENET, init_values=1e-5),
    "timm_dinov2_reg4": lambda: of_timm(
        "vit_small_patch14_reg4_dinov2", IMAGENET, init_values=1e-5, reg_tokens=REGISTERS, no_embed_class=True
    ),
    "timm_dinov3": lambda: of_timm("vit_small_patch16_dinov3", IMAGENET, Eva, **DINOV3),
    "timm_dinov3_qkvb": lambda: of_timm("vit_small_patch16_dinov3_qkvb", IMAGENET, Eva, **DINOV3 | {"qkv_bias": True}),
    "timm_dinov3_plus": lambda: of_timm(
        "vit_small_plus_patch16_dinov3", IMAGENET, Eva, **DINOV3, swiglu_mlp=True, swiglu_align_to=8
    ),
    "timm_siglip": lambda: of_timm("vit_base_patch16_siglip_224", HALF, class_token=False, global_pool="map"),
}
VERSION_4 = transformers.__version__.startswith("4.")
DINOV3_BLOCKS = "layer" if VERSION_4 else "model.layer"
SIGLIP_BLOCKS = "vision_model.encoder.layers" if VERSION_4 else "encoder.layers"
VIT_BLOCKS = "encoder.layer" if VERSION_4 else "layers"

if __name__ == "__main__":
    main()
