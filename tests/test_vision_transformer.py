"""Vision transformers: the tokens of the references, every cut exact, the same through OpenVINO and through a file."""

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import thaw  # noqa: F401 - before what computes: it chooses the kernels
from thaw.backbones import building, registry, transformer_weights
from thaw.backbones.cut_points import FEATURES, find_cut_points, resolve
from thaw.backbones.vision_transformer import GATED, HALF, ROTARY, SIGLIP, Architecture, network
from thaw.core import weight_files
from thaw.core.errors import ThawError
from thaw.engines import inference, model_files
from thaw.engines.keras_setup import keras
from thaw.engines.keras_to_openvino import convert
from thaw.engines.transformer_layers import TokenPooling, bicubic

DATA = Path(__file__).parent / "data" / "transformers"
TINY = Architecture(16, 4, channels=24, blocks=2, heads=2, mlp_ratio=2)
REGISTERS = replace(TINY, prefix=5, layer_scale=True, antialias=True)
DINOV3 = replace(TINY, **ROTARY)
# Networks with random weights that transformers and timm made and ran, see the README.md there.
REFERENCES = {
    "hf_deit_classifier": TINY,
    "hf_dinov2": replace(TINY, layer_scale=True),
    "hf_dinov2_with_registers": REGISTERS,
    "hf_dinov3": DINOV3,
    "hf_dinov3_plus": replace(DINOV3, **GATED),
    "hf_siglip": replace(TINY, **SIGLIP),
    "hf_siglip_vision": replace(TINY, **SIGLIP),
    "hf_vit": replace(TINY, **HALF),
    "hf_vit_classifier": replace(TINY, **HALF),
    "timm_deit_classifier": replace(TINY, antialias=True),
    "timm_dinov2": replace(TINY, layer_scale=True, antialias=True),
    "timm_dinov2_reg4": REGISTERS,
    "timm_dinov3": DINOV3,
    "timm_dinov3_plus": replace(DINOV3, **GATED),
    "timm_dinov3_qkvb": DINOV3,
    "timm_siglip": replace(TINY, **SIGLIP | {"activation": "gelu", "antialias": True}),
    "timm_vit_classifier": replace(TINY, **HALF, antialias=True),
}
FAMILIES = {name: REFERENCES[name] for name in ("hf_dinov2_with_registers", "hf_dinov3_plus", "hf_siglip", "hf_vit")}


def read(name: str) -> keras.Model:
    model = network(REFERENCES[name], name)
    transformer_weights.load(model, DATA / name / "model.safetensors")
    return model


def run(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(model(batch, training=False)) for batch in np.split(x, len(x))])


def run_openvino(model: keras.Model, x: np.ndarray) -> np.ndarray:
    compiled = inference.compile_model(convert(model), x.shape[1:], x.dtype, np.float32)
    return np.concatenate(list(compiled(inference.rebatch([x]))))


@pytest.mark.parametrize("name", REFERENCES)
def test_the_tokens_are_those_of_the_reference(name):
    model, reference = read(name), np.load(DATA / name / "reference.npz")
    outputs = {"block1": "block1_add", "tokens": "norm"}
    named = {kind: model.get_layer(layer).output for kind, layer in outputs.items()}
    computed = keras.Model(model.input, {**named, "features": model.output})
    for size in ("", "_larger", "_smaller"):  # the last two interpolate the positions
        for kind, output in computed(reference[f"images{size}"].astype(np.float32), training=False).items():
            is_own = kind == "tokens" or (kind == "features" and REFERENCES[name].attention_pooling)
            if is_own or (kind == "block1" and not size):
                np.testing.assert_allclose(output, reference[kind + size], atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_openvino_computes_the_same_at_any_size(name):
    model, reference = read(name), np.load(DATA / name / "reference.npz")
    kind = "features" if REFERENCES[name].attention_pooling else "tokens"
    for size in ("", "_larger"):
        output = run_openvino(model, reference[f"images{size}"].astype(np.float32))
        np.testing.assert_allclose(output, reference[kind + size], atol=1e-4)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [16, 40])
def test_positions_are_interpolated_as_torch_does_it(size, antialias):
    positions = np.load(DATA / "positions.npz")
    weights = bicubic(size, 37, antialias)
    result = np.einsum("hi,wj,ij...->hw...", weights, weights, positions["grid"])
    np.testing.assert_allclose(result, positions[f"{'antialias' if antialias else 'plain'}_{size}"], atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_and_thawed_part_are_the_whole_at_every_cut_point(name):
    model = read(name)
    features = TokenPooling("avg", REFERENCES[name].prefix, name=FEATURES)(model.get_layer("norm").output)
    whole = keras.Model(model.input, keras.layers.Dense(3, name="probabilities")(features))
    images = np.load(DATA / name / "reference.npz")["images_larger"].astype(np.float32)
    expected, points = run(whole, images), find_cut_points(whole, FEATURES)
    assert [p.layer for p in points][-5:] == ["block1_add", "block2_attention_add", "block2_add", "norm", FEATURES]
    for point in points:
        frozen = keras.Model(whole.input, whole.get_layer(point.layer).output)
        np.testing.assert_array_equal(run(model_files.thawed_part(whole, point.layer), run(frozen, images)), expected)


@pytest.mark.parametrize("name", ["hf_vit_classifier", "timm_vit_classifier", "timm_deit_classifier"])
def test_the_classes_of_a_file_are_those_of_the_reference(name, tmp_path):
    """A file with ten classes, in the place of a thousand."""
    state = load_file(DATA / name / "model.safetensors")
    head = "classifier" if "classifier.weight" in state else "head"
    reference = np.load(DATA / name / "reference.npz")
    for kind in ("weight", "bias"):
        full = np.zeros((1000, *state[f"{head}.{kind}"].shape[1:]), np.float32)
        full[:10] = state[f"{head}.{kind}"]
        state[f"{head}.{kind}"] = full
    state[f"{head}.bias"][10:] = -100
    save_file(state, tmp_path / "model.safetensors")
    model = network(REFERENCES[name], name, top=True)
    transformer_weights.load(model, tmp_path / "model.safetensors")
    logits = reference["logits"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run(model, reference["images"].astype(np.float32))[:, :10], expected, atol=1e-4)
    assert [layer.name for layer in model.layers[-2:]] == [FEATURES, "predictions"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_network_computes_the_same_and_has_the_same_bytes(name, tmp_path):
    model, images = read(name), np.load(DATA / name / "reference.npz")["images"].astype(np.float32)
    for file in ("a.keras", "b.keras"):
        model_files.save(model, tmp_path / file, {})
    loaded, _ = model_files.load(tmp_path / "a.keras")
    np.testing.assert_array_equal(run(loaded, images), run(model, images))
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


@pytest.mark.parametrize("pooling", ["avg", "max", "cls", "cls_avg", None])
def test_tokens_are_pooled_as_the_parameter_says(pooling):
    tokens = np.random.default_rng(1).normal(size=(2, 5 + 9, 24)).astype(np.float32)
    patches, class_token = tokens[:, 5:], tokens[:, 0]
    expected = {
        "avg": patches.mean(1), "max": patches.max(1), "cls": class_token,
        "cls_avg": np.hstack([class_token, patches.mean(1)]), None: patches.reshape(2, 3, 3, 24),
    }[pooling]  # fmt: skip
    x = keras.Input((None, 24))
    model = keras.Model(x, TokenPooling(pooling, 5)(x))
    np.testing.assert_allclose(run(model, tokens), expected, atol=1e-6)
    np.testing.assert_allclose(run_openvino(model, tokens), expected, atol=1e-6)


@pytest.mark.parametrize("cut", ["embedding_patches", "embedding_tokens", "embedding"])
def test_a_network_is_not_cut_before_its_first_block(cut):
    with pytest.raises(ThawError, match=r"backbone\.cut .* is no cut point of this backbone"):
        building.build("DeiTTi16", None, seed=1, cut=cut, pooling="cls")


def test_a_block_is_a_depth_and_a_learning_rate():
    from thaw.training.loop import rate_groups

    model, _ = building.build("DeiTTi16", None, seed=1, pooling="cls")
    layers = [point.layer for point in find_cut_points(model, FEATURES)]
    assert resolve("block9", layers) == "block9_add"
    assert resolve("block1", layers) == "block1_add"
    with_head = keras.Model(model.input, keras.layers.Dense(2, name="probabilities")(model.output))
    factors = [group.factor for group in rate_groups(with_head, ("block10_add",), 0.5)]
    assert factors == [1, 0.5, 0.25, 0.125]  # the head, the norm, block 12, block 11


def test_only_kernels_decay():
    from thaw.training.centring import input_axes, is_kernel

    model = network(REGISTERS, "registers")
    others = {v.name for v in model.trainable_variables if not is_kernel(v)}
    assert others == {"bias", "gamma", "beta", "embedding", "tokens"}
    axes = input_axes(model.layers)
    assert all(bool(axes[v.path]) == is_kernel(v) for v in model.trainable_variables)


@pytest.mark.parametrize("weights", ["F16", "BF16"])
def test_weights_in_half_precision_are_read(weights, tmp_path):
    from ml_dtypes import bfloat16

    state = load_file(DATA / "hf_dinov2" / "model.safetensors")
    dtype = {"F16": np.dtype(np.float16), "BF16": np.dtype(bfloat16)}[weights]
    write(tmp_path / "half.safetensors", {name: values.astype(dtype) for name, values in state.items()}, weights)
    read_state = transformer_weights.read(tmp_path / "half.safetensors")
    for name, values in state.items():
        np.testing.assert_array_equal(read_state[name], values.astype(dtype).astype(np.float32))


def write(path: Path, state: dict[str, np.ndarray], dtype: str) -> None:
    """Write safetensors by hand: its own writer for NumPy does not know every dtype."""
    header, blob = {}, b""
    for name, values in state.items():
        data = values.tobytes()
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


def changed(tmp_path: Path, edit) -> Path:
    state = load_file(DATA / "hf_dinov2" / "model.safetensors")
    edit(state)
    save_file(state, tmp_path / "changed.safetensors")
    return tmp_path / "changed.safetensors"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("encoder.layer.1.norm1.weight"), "it has no block2_norm1.weight"),
        (
            lambda s: s.update({"encoder.layer.2.norm1.weight": np.ones(24, "f4")}),
            "dinov2 has no encoder.layer.2.norm1.weight",
        ),
        (lambda s: s.update({"layernorm.weight": np.ones(25, "f4")}), "another network"),
        (
            lambda s: s.update({"embeddings.patch_embeddings.projection.weight": np.ones((24, 3, 8, 8), "f4")}),
            "embeddings.patch_embeddings.projection.weight in it has (24, 3, 8, 8), and layer embedding_patches needs "
            "(24, 3, 4, 4)",
        ),
        (lambda s: s.update({"embeddings.position_embeddings": np.ones((1, 18, 24), "f4")}), "another network"),
    ],
)  # fmt: skip
def test_a_file_of_another_network_is_refused_with_the_name_that_differs(edit, message, tmp_path):
    with pytest.raises(ThawError) as error:
        transformer_weights.load(network(REFERENCES["hf_dinov2"], "dinov2"), changed(tmp_path, edit))
    assert message in str(error.value)


@pytest.mark.parametrize("damage", ["header lies", "cut short", "no header", "empty", "no json"])
def test_a_damaged_file_is_one_line(damage, tmp_path):
    content = (DATA / "hf_dinov2" / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(
        {
            "header lies": struct.pack("<Q", 2**40) + content[8:], "cut short": content[:-100],
            "no header": b"\xff" * 99, "empty": b"", "no json": struct.pack("<Q", 4) + b"nope",
        }[damage]
    )  # fmt: skip
    with pytest.raises(ThawError, match="damaged") as error:
        transformer_weights.load(network(REFERENCES["hf_dinov2"], "dinov2"), path)
    assert "\n" not in str(error.value)


def test_two_tensors_of_one_place_are_refused(tmp_path):
    state = load_file(DATA / "hf_dinov2" / "model.safetensors")
    save_file(state | {"model.layernorm.bias": np.ones(24, "f4")}, tmp_path / "two.safetensors")
    with pytest.raises(ThawError, match="are the same tensor of a network"):
        transformer_weights.load(network(REFERENCES["hf_dinov2"], "dinov2"), tmp_path / "two.safetensors")


@pytest.mark.parametrize("text", ["[]", "x", '{"pretrained_cfg": null}', '{"mean": "a", "std": "b"}'])
def test_what_is_no_description_beside_the_weights_says_nothing(text, tmp_path, capsys):
    shutil.copy(DATA / "hf_vit" / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(text)
    transformer_weights.load(network(REFERENCES["hf_vit"], "vit"), tmp_path / "model.safetensors")
    assert capsys.readouterr().out == ""


def test_positions_of_another_grid_are_interpolated_and_said(tmp_path, capsys):
    transformer_weights.load(
        network(replace(TINY, size=24, layer_scale=True), "x"), DATA / "hf_dinov2/model.safetensors"
    )
    assert "positions of 4 × 4 patches in the file are interpolated to 6 × 6" in capsys.readouterr().out


def test_pixels_are_scaled_as_the_folder_says_and_that_is_said(tmp_path, capsys):
    for name in ("model.safetensors", "preprocessor_config.json"):
        shutil.copy(DATA / "hf_vit" / name, tmp_path)
    transformer_weights.load(network(REFERENCES["hf_vit"], "vit"), tmp_path / "model.safetensors")
    assert capsys.readouterr().out == ""
    deit = network(TINY, "deit")
    transformer_weights.load(deit, tmp_path / "model.safetensors")
    assert (
        "mean and deviation of pixels are those of preprocessor_config.json beside the weights, [0.5, 0.5, 0.5] and "
        "[0.5, 0.5, 0.5]; the published deit has [0.485, 0.456, 0.406]"
    ) in capsys.readouterr().out
    scaled = np.asarray(deit.get_layer("preprocess")(np.float32([[[[0, 127.5, 255]]]])))
    np.testing.assert_allclose(scaled.ravel(), [-1, 0, 1], atol=1e-6)


def test_another_number_of_heads_is_refused(tmp_path):
    for name in ("model.safetensors", "config.json"):
        shutil.copy(DATA / "hf_vit" / name, tmp_path)
    with pytest.raises(ThawError, match=r"its config\.json has 2 heads, vit has 4"):
        transformer_weights.load(network(replace(REFERENCES["hf_vit"], heads=4), "vit"), tmp_path / "model.safetensors")


def test_a_folder_without_safetensors_says_what_it_has(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ThawError, match=r"model.safetensors; pytorch_model.bin is in another format: save the network"):
        weight_files.sha256(weight_files.main_file(tmp_path))


def test_every_published_network_has_a_repository_of_its_own():
    families = [family for family in registry.FAMILIES if family.fetch]
    names = [name for family in families for name in family.input_sizes]
    assert len(names) == len(set(names)) >= 19
    for family in families:
        assert family.licence
        assert all(size.trained % size.multiple == 0 for size in family.input_sizes.values())
