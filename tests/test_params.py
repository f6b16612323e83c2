"""All of params.yaml is checked before any work; a mistake is one line that names the key and its valid values."""

import copy
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dependencies import SRC

from thaw.core import kernels, params
from thaw.core.errors import ThawError
from thaw.core.section import as_written
from thaw.experiments import params_edit
from thaw.inputs import outputs

DEFAULTS = yaml.safe_load((Path(__file__).parent.parent / "params.yaml").read_text(encoding="utf-8"))


def write(path: Path, changes: dict, remove: tuple[str, ...] = ()) -> Path:
    """Write the repository's own params.yaml with some dotted keys changed, added or removed."""
    values = copy.deepcopy(DEFAULTS)
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[name] = value
    for key in remove:
        *sections, name = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        del section[name]
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def message(tmp_path: Path, changes: dict, remove: tuple[str, ...] = ()) -> str:
    with pytest.raises(ThawError) as caught:
        params.load(write(tmp_path / "params.yaml", changes, remove))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_file_of_the_repository_is_valid(tmp_path):
    assert params.load(write(tmp_path / "params.yaml", {})).image.size == DEFAULTS["image"]["size"]


def test_every_parameter_of_the_file_is_one_that_is_read(tmp_path):
    loaded = params.load(write(tmp_path / "params.yaml", {}))
    assert loaded.model_dump() == DEFAULTS


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("image.sizes", "image.size"),
        ("fine_tune.freeze_dept", "fine_tune.freeze_depth"),
        ("fine_tune.learningrate", "fine_tune.learning_rate"),
        ("augment.flip_horizontally", "augment.flip_horizontal"),
        ("split.seeds", "split.seed"),
        ("download.elpv.treshold", "download.elpv.threshold"),
        ("fintune", "fine_tune"),
        ("augmentation", "augment"),
    ],
)
def test_a_misspelt_parameter_is_named_with_the_nearest_one(tmp_path, misspelt, meant):
    text = message(tmp_path, {misspelt: 1})
    assert f"unknown parameter {misspelt} (did you mean {meant}" in text


def test_a_parameter_in_the_wrong_section_is_named_with_its_own(tmp_path):
    text = message(tmp_path, {"image.batch_size": 1})
    assert "unknown parameter image.batch_size (did you mean" in text
    assert "fine_tune.batch_size" in text


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("image.size", "224", "a whole number, or null, not '224'"),
        ("fine_tune.patience", "none", "a whole number, or null, not 'none'"),
        ("fine_tune.batch_size", "32", "a whole number, not '32'"),
        ("split.folds", 2, "null, auto, groups or a whole number from 3"),
        ("split.folds", "group", "null, auto, groups or a whole number from 3"),
        ("split.folds", True, "null, auto, groups or a whole number from 3"),
        ("split.after", True, 'a date in quotes, such as "2024-05-01", or a number'),
        ("split.group", 5, "the name of a column, a list of such names, or null"),
        ("split.group", [], "the name of a column, a list of such names, or null"),
        ("split.repeats", 2.5, "whole number"),
        ("image.size", 224.5, "whole number"),
        ("image.size", True, "whole number"),
        ("image.size", [224], "whole number"),
        ("split.seed", 1.0, "whole number"),
        ("split.validation", "a tenth", "number"),
        ("split.validation", True, "number"),
        ("split.keep_subsets", "yes", "boolean"),
        ("split.keep_subsets", 1, "boolean"),
        ("backbone.weights", 5, "one of imagenet, lvd142m"),
        ("backbone.weights", "imagnet", "null, a folder (with a /), or a file"),
        ("backbone.weights", "weights.pt", ".weights.h5, .keras, .h5, .pth, .safetensors, .onnx or .xml"),
        ("fine_tune.freeze_depth", 5, "string"),
        ("fine_tune.freeze_depth", None, "string"),
        ("image.resize", "cropp", "'crop', 'pad', 'squash' or 'auto'"),
        ("image.resize", None, "'crop', 'pad', 'squash' or 'auto'"),
        ("image.engine", "onnx", "'openvino' or 'tensorflow'"),
        ("head.class_weight", "equal", "'balanced' or null"),
        ("download.source", "imagenet", "'table' or 'fiftyone'"),
        ("head.strengths", 1.0, "list"),
        ("head.extend", "model.h5", "true, null, or a .keras file"),
        ("head.extend", 1, "true, null, or a .keras file"),
        ("download.folder", "photographs", "section"),
        ("augment", None, "section"),
        ("augment", [1, 2], "section"),
    ],
)
def test_a_value_of_the_wrong_type_names_the_key_the_value_and_what_it_may_be(tmp_path, key, value, allowed):
    text = message(tmp_path, {key: value})
    assert f"{key} should be" in text
    assert allowed in text
    assert f"not {as_written(value)}" in text


def test_a_message_has_null_true_and_false_as_params_yaml_has_them():
    assert [as_written(value) for value in (None, True, False, 1, "no")] == ["null", "true", "false", "1", "'no'"]


def test_a_date_without_quotes_says_that_it_needs_them(tmp_path):
    path = write(tmp_path / "params.yaml", {})
    path.write_text(path.read_text(encoding="utf-8").replace("after: null", "after: 2024-05-01"), encoding="utf-8")
    with pytest.raises(ThawError, match=r"split.after should be a date in quotes, .*, not 2024-05-01$"):
        params.load(path)


@pytest.mark.parametrize("folds", [None, "auto", "groups", 3, 10])
def test_folds_may_be(tmp_path, folds):
    assert params.load(write(tmp_path / "params.yaml", {"split.folds": folds})).split.folds == folds


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split.folds": 5, "split.after": "2024-05-01"}, "split.after needs split.folds: null"),
        ({"fine_tune.keep": "head"}, "fine_tune.keep: head is for folds: set it to auto, or set split.folds"),
        ({"split.repeats": 3}, "split.repeats: 3 needs split.folds: auto or a number"),
        ({"split.repeats": 3, "split.folds": "groups"}, "split.repeats: 3 needs split.folds: auto or a number"),
    ],
)
def test_parameters_of_folds_that_exclude_one_another(tmp_path, changes, words):
    assert words in message(tmp_path, changes)


@pytest.mark.parametrize(
    ("key", "value", "limit"),
    [
        ("image.size", 31, "32"),
        ("image.size", 2049, "2048"),
        ("split.validation", 0.0, "0"),
        ("split.test", 1.0, "1"),
        ("split.seed", -1, "0"),
        ("split.seed", 2**32, "4294967296"),
        ("augment.copies", -1, "0"),
        ("augment.rotation", 180.5, "180"),
        ("augment.zoom", 1.0, "1"),
        ("augment.crop", 0.0, "0"),
        ("augment.crop", 1.01, "1"),
        ("augment.brightness", -0.1, "0"),
        ("head.strengths", [], "1"),
        ("head.augmented", [], "1"),
        ("head.probes", [], "1"),
        ("fine_tune.epochs", 0, "1"),
        ("fine_tune.learning_rate", 0.0, "0"),
        ("fine_tune.layer_decay", 0.0, "0"),
        ("fine_tune.weight_decay", 1.0, "1"),
        ("evaluate.bins", 1, "2"),
        ("download.elpv.threshold", 1.0, "1"),
        ("evaluate.shown", 101, "100"),
    ],
)
def test_a_value_out_of_range_names_the_key_the_value_and_the_limit(tmp_path, key, value, limit):
    text = message(tmp_path, {key: value})
    assert f"{key} should" in text
    assert limit in text.split(f"{key} should")[1].removesuffix(repr(value))
    assert text.endswith(f", not {value!r}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["fine_tune.learning_rate", "fine_tune.warmup_epochs", "augment.rotation"])
def test_a_number_that_is_not_finite_is_refused(tmp_path, key, value):
    assert f"{key} should be" in message(tmp_path, {key: value})


@pytest.mark.parametrize("value", [0.3, 0.5, "best_f1", "precision:0.95", "recall:.9", "recall:1", "precision:1.0"])
def test_a_threshold_is_a_number_or_an_aim(tmp_path, value):
    assert params.load(write(tmp_path / "params.yaml", {"evaluate.threshold": value})).evaluate.threshold == value


@pytest.mark.parametrize(
    "value", [0, 1, 1.5, -0.1, True, None, "f1", "precision", "recall:0", "recall:2", [0.5], "0.5"]
)
def test_a_threshold_of_another_form_names_what_it_may_be(tmp_path, value):
    text = message(tmp_path, {"evaluate.threshold": value})
    assert "evaluate.threshold should be a number between 0 and 1, best_f1, precision:0.95 or recall:0.95" in text
    assert text.endswith(f"not {value!r}")


@pytest.mark.parametrize(
    ("value", "hint"), [("nul", "did you mean null?"), ("None", "valid: horizontal, vertical, both, null")]
)
def test_what_may_be_left_out_is_null_in_the_hint_as_yaml_has_it(tmp_path, value, hint):
    text = message(tmp_path, {"evaluate.test_time_flips": value})
    assert text.endswith(f"should be 'horizontal', 'vertical', 'both' or null, not {value!r} ({hint})")


def test_a_value_within_a_list_is_named_by_its_position(tmp_path):
    assert "head.strengths.1 should be greater than 0, not -1.0" in message(tmp_path, {"head.strengths": [1.0, -1.0]})


@pytest.mark.parametrize(
    "key", ["fine_tune.learning_rate", "augment.rotation", "augment.crop", "download.elpv.threshold"]
)
def test_a_whole_number_will_do_where_a_fraction_may_stand(tmp_path, key):
    value = 0 if key == "download.elpv.threshold" else 1
    assert params.load(write(tmp_path / "params.yaml", {key: value}))


def test_a_missing_parameter_is_named(tmp_path):
    assert "fine_tune.seed is missing" in message(tmp_path, {}, remove=("fine_tune.seed",))


def test_a_missing_section_is_named(tmp_path):
    assert "evaluate is missing" in message(tmp_path, {}, remove=("evaluate",))


def test_several_mistakes_are_all_named(tmp_path):
    text = message(
        tmp_path,
        {"image.size": "big", "split.seed": -1, "augment.blur": 1, "download.source": "web"},
        remove=("head.kind",),
    )
    for key in ("image.size", "split.seed", "augment.blur", "download.source", "head.kind"):
        assert key in text


def test_shares_that_leave_nothing_to_train_on_are_refused(tmp_path):
    text = message(tmp_path, {"split.validation": 0.5, "split.test": 0.5})
    assert "split.validation + split.test must be below 1" in text


def test_a_folder_source_without_a_path_is_refused(tmp_path):
    assert "download.folder.path must name a folder" in message(tmp_path, {"download.source": "folder"})


def test_a_folder_source_with_a_path_is_taken(tmp_path):
    path = write(tmp_path / "params.yaml", {"download.source": "folder", "download.folder.path": "photographs"})
    assert params.load(path).download.folder.path == "photographs"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing but a comment\n",
        b"just words",
        b"- a\n- list\n",
        b"image: {size: 224",
        b"image:\n\tsize: 224\n",
        b"\xff\xfe\x00binary",
        b"image: {size: 224}\x00",
        b"!!python/object/apply:os.system ['true']",
        b"*unknown",
    ],
)
def test_a_file_that_holds_no_parameters_is_one_line(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ThawError) as caught:
        params.load(path)
    assert "params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_message_about_an_empty_file_says_what_is_wanted(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"")
    with pytest.raises(ThawError, match=r"params\.yaml .*sections"):
        params.load(path)


def test_a_key_that_is_no_text_is_named(tmp_path):
    assert "unknown parameter image.7" in message(tmp_path, {"image": DEFAULTS["image"] | {7: 1}})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("1e-05", 1e-5), ("2E-4", 2e-4), ("3.e-3", 3e-3), ("1.0e-4", 1e-4), ("+1e2", 1e2)],
)
def test_a_number_with_an_exponent_is_a_number_however_it_is_written(tmp_path, text, value):
    path = write(tmp_path / "params.yaml", {"fine_tune.learning_rate": "RATE"})
    path.write_text(path.read_text().replace("RATE", text))
    assert params.load(path).fine_tune.learning_rate == value


def test_text_that_begins_like_a_number_stays_text(tmp_path):
    path = write(tmp_path / "params.yaml", {"fine_tune.freeze_depth": "DEPTH"})
    path.write_text(path.read_text().replace("DEPTH", "1e5x"))
    assert params.load(path).fine_tune.freeze_depth == "1e5x"


@pytest.mark.parametrize(("encoding", "ends"), [("utf-8-sig", "\n"), ("utf-8", "\r\n"), ("utf-8-sig", "\r\n")])
def test_a_file_as_windows_saves_it_is_read(tmp_path, encoding, ends):
    path = write(tmp_path / "params.yaml", {"download.folder.path": "Größe"})
    path.write_bytes(path.read_text(encoding="utf-8").replace("\n", ends).encode(encoding))
    assert params.load(path).download.folder.path == "Größe"
    assert params_edit.read(path)["download"]["folder"]["path"] == "Größe"


@pytest.mark.parametrize(
    ("encoding", "words"),
    [("utf-16", "is in UTF-16: save it in UTF-8"), ("latin-1", r"is not in UTF-8 \(line \d+\): save it in UTF-8")],
)
@pytest.mark.parametrize("read", [params.load, params_edit.read, outputs.declared])
def test_a_file_in_another_encoding_is_one_line_that_says_what_to_do(tmp_path, encoding, words, read):
    path = write(tmp_path / "params.yaml", {"download.folder.path": "GRÖSSE"})
    path.write_bytes(path.read_text(encoding="utf-8").replace("GR\\xD6SSE", "GRÖSSE").encode(encoding))
    with pytest.raises(ThawError, match=f"params.yaml {words}"):
        read(path)


@pytest.mark.parametrize("text", ["", "stages: [", "stages:\n\t- x", "stages: [a, b]", "other: 1"])
def test_a_pipeline_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(ThawError, match=r"dvc.yaml is not a pipeline of DVC: "):
        outputs.declared(tmp_path / "dvc.yaml")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ThawError, match="is missing"):
        params.load(tmp_path / "params.yaml")


def test_a_backbone_that_does_not_exist_comes_with_the_nearest_names(tmp_path):
    text = message(tmp_path, {"backbone.name": "EficientNetV2B0"})
    assert "backbone.name should be one of 63 names, not 'EficientNetV2B0' (did you mean EfficientNetV2B0" in text


@pytest.mark.parametrize(("name", "least"), [("InceptionV3", 75), ("Xception", 71), ("VGG16", 32)])
def test_a_size_too_small_for_the_backbone_says_the_least(tmp_path, name, least):
    text = message(tmp_path, {"backbone.name": name, "image.size": least - 1})
    assert str(least) in text
    params.load(write(tmp_path / "params.yaml", {"backbone.name": name, "image.size": least}))


def test_the_size_may_be_left_to_the_backbone(tmp_path):
    assert params.load(write(tmp_path / "params.yaml", {"image.size": None})).image.size is None


def test_a_linear_head_on_maps_says_what_to_set(tmp_path):
    assert "set backbone.pooling to avg or max" in message(tmp_path, {"backbone.pooling": None})


def test_convolutions_on_pooled_features_say_what_to_set(tmp_path):
    text = message(tmp_path, {"head.kind": "network", "head.conv_blocks": [64]})
    assert "set backbone.pooling to null" in text
    params.load(write(tmp_path / "params.yaml", {
        "head.kind": "network", "head.conv_blocks": [64], "backbone.pooling": None,
    }))  # fmt: skip


@pytest.mark.parametrize("cut", ["all", "none"])
def test_a_cut_is_a_layer_and_null_for_none(tmp_path, cut):
    assert "null for all of the network" in message(tmp_path, {"backbone.cut": cut})


def test_a_training_of_the_head_is_tried_once(tmp_path):
    assert "head.augmented should be [false], [true] or [false, true]" in message(
        tmp_path, {"head.augmented": [True, True]}
    )


def test_an_extended_head_is_linear_and_nothing_thaws_behind_it(tmp_path):
    assert "head.extend needs fine_tune.freeze_depth: all" in message(tmp_path, {"head.extend": True})
    frozen = {"head.extend": "first.keras", "fine_tune.freeze_depth": "all"}
    assert "head.extend needs head.kind: linear" in message(tmp_path, {**frozen, "head.kind": "network"})
    assert "evaluate.threshold must be 0.5 with head.extend" in message(
        tmp_path, {**frozen, "evaluate.threshold": "recall:0.95"}
    )
    assert params.load(write(tmp_path / "params.yaml", frozen)).head.extend == "first.keras"


def test_checking_the_parameters_imports_no_heavy_package():
    """Every stage checks all sections, those of all sources too."""
    heavy = {
        "numpy",
        "polars",
        "PIL",
        "cv2",
        "requests",
        "urllib3",
        "tqdm",
        "psutil",
        "fiftyone",
        "tensorflow",
        "keras",
    }
    code = "import sys, thaw.parameters.whole; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=SRC, capture_output=True, text=True, check=True)
    imported = set(process.stdout.split())
    assert "thaw.sources.open_images" in imported
    assert not heavy & imported


# As DVC reads it

TEXTS = [
    "1e-3", "1.0e-3", "1E3", ".5", "5.", ".5e-3", "-.5", "+1", "1_000", "0o17", "017", "010", "08", "0x1F", "1:30",
    "yes", "no", "on", "off", "true", "TRUE", "~", "null", "", "2024-01-01", ".inf", "1e400", "1,000", "12e03",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_is_read_as_dvc_reads_it(text, monkeypatch):
    """DVC decides by its reading what has changed, and writes the values of experiments."""
    from dvc.utils.serialize import parse_yaml

    class Model:
        model_fields = ()
        model_validate = staticmethod(lambda values: values)

    monkeypatch.setattr(params, "_all_sections", lambda: Model)
    text = f"a: {text}\n"
    assert repr(params.parse(text, "params.yaml")) == repr(parse_yaml(text, "params.yaml"))


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("head.learning_rate", "1:30", "head.learning_rate should be a number, not '1:30'"),
        ("head.dropout", "0,2", "head.dropout should be a number, not '0,2'"),
        ("fine_tune.cache", "off", "fine_tune.cache should be a boolean, not 'off' (true or false)"),
        ("split.keep_subsets", "yes", "not 'yes' (true or false)"),
        ("download.open_images.classes", "[1, 2]", "classes.0 should be a string, not 1: put it in quotes"),
        ("download.open_images.classes", "[2024-01-01]", "put it in quotes"),
        (
            "download.folder.path",
            "2024",
            "download.folder.path should be a string, or null, not 2024: put it in quotes",
        ),
        ("download.bits", "7", "download.bits should be greater than or equal to 8, or null, not 7"),
        ("split.seed", "1\n  seed: 2", "is not valid YAML: while constructing a mapping"),
    ],
)
def test_a_value_of_another_type_says_how_to_write_it(tmp_path, key, text, words):
    path = write(tmp_path / "params.yaml", {key: "HERE"})
    path.write_text(path.read_text(encoding="utf-8").replace("HERE", text), encoding="utf-8")
    with pytest.raises(ThawError) as caught:
        params.load(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "classes"),
    [("[No, Yes]", ["No", "Yes"]), ("[on, off]", ["on", "off"]), ("\n    - 1:30\n    - y", ["1:30", "y"])],
)
def test_words_that_yaml_once_took_for_values_name_classes(tmp_path, text, classes):
    path = write(
        tmp_path / "params.yaml", {"download.open_images.classes": "HERE", "download.open_images.negatives": None}
    )
    path.write_text(path.read_text(encoding="utf-8").replace("HERE", text), encoding="utf-8")
    assert params.load(path).download.open_images.classes == classes


# What is known before the work

THREE = ("apple", "banana", "cherry")
EXTENDED = {"backbone.top": True, "head.extend": True, "fine_tune.freeze_depth": "all"}


@pytest.mark.parametrize(
    ("changes", "classes", "words"),
    [
        ({"evaluate.threshold": "best_f1"}, THREE, "needs two classes, and there are 3"),
        ({"head.kind": "network", "head.output": "sigmoid"}, THREE, "`head.output: sigmoid` needs two classes"),
        (EXTENDED, THREE, "one label that begins with 'not '"),
        (EXTENDED, ("not a", "not b", "c"), "one label that begins"),
        (EXTENDED, ("Banana", "not Banana"), "the model has a class 'banana' already: rename the new one"),
    ],
)
def test_what_does_not_fit_the_classes_is_refused_before_a_photograph_is_copied(tmp_path, changes, classes, words):
    """The stage `download` checks this as soon as it has the classes."""
    loaded = params.load(write(tmp_path / "params.yaml", changes))
    with pytest.raises(ThawError, match=words):
        loaded.check_classes(classes)
    loaded.check_classes(("apple", "not apple"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"split.folds": 5},
            "^split.folds: 5 and the split that was given .* exclude one another: set split.folds: null",
        ),
        ({"split.folds": "groups"}, "^split.folds: groups and the split that was given"),
        ({"split.after": "2024-05-01"}, "^split.after and the split that was given .* exclude one another"),
    ],
)
def test_a_split_of_ones_own_beside_another_division_is_refused_before_a_photograph_is_copied(tmp_path, changes, words):
    path = tmp_path / "params.yaml"
    split = params.load(write(path, changes)).split
    for subset in ("validation", "test"):
        with pytest.raises(ThawError, match=words):
            split.check_subsets(["", "train", subset])
    split.check_subsets(["train", "", None])
    for others in (changes | {"split.keep_subsets": False}, {"split.folds": "auto"}):
        params.load(write(path, others)).split.check_subsets(["train", "test"])


@pytest.mark.parametrize("name", ["fine_tune.gradients", "image.precision"])
def test_bfloat16_needs_native_kernels(tmp_path, monkeypatch, name):
    path = write(tmp_path / "params.yaml", {name: "bfloat16"})
    monkeypatch.setattr(kernels, "CHOICE", kernels.Choice(False, "THAW_KERNELS=native", {}))
    params.check_kernels(path)
    monkeypatch.setattr(kernels, "CHOICE", kernels.Choice(True, "", {}))
    with pytest.raises(ThawError, match=f"{name}: bfloat16 needs THAW_KERNELS=native in the environment"):
        params.check_kernels(path)


DINOV2 = {"backbone.name": "DINOv2S14", "backbone.weights": "lvd142m", "fine_tune.freeze_depth": "block9"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone.weights": "imagenet"}, "DINOv2S14 was not published with imagenet: set it to lvd142m"),
        (
            {"image.size": 230},
            "a multiple of 14, the side of a patch, for DINOv2S14, not 230: such as 224, 238",
        ),
        ({"backbone.pooling": "attention"}, "DINOv2S14 has 'avg', 'max', 'cls', 'cls_avg', null, not 'attention'"),
        ({"backbone.name": "EfficientNetLite0", "backbone.weights": None, "backbone.pooling": "cls"}, "not 'cls'"),
        (
            {
                "backbone.name": "SigLIP2B16",
                "backbone.weights": None,
                "backbone.pooling": "attention",
                "backbone.cut": "b",
            },
            "attention stands behind the whole network: set backbone.cut to null",
        ),
        ({"image.precision": "bfloat16", "image.engine": "tensorflow"}, "bfloat16 needs image.engine: openvino"),
    ],
)
def test_what_a_transformer_does_not_have_is_one_line(tmp_path, changes, words):
    assert words in message(tmp_path, DINOV2 | changes)


def test_the_nearest_sizes_are_sizes_that_may_be(tmp_path):
    assert message(tmp_path, DINOV2 | {"image.size": 33}).endswith("not 33: such as 42")
    assert message(tmp_path, DINOV2 | {"image.size": 2047}).endswith("not 2047: such as 2044")


WEIGHTS = ["lvd142m", "./folder", "~/dinov2-1.5/", "/timm/vit_small.lvd142m", "/a/file.safetensors", None]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_of_a_transformer_are_published_ones_a_folder_or_a_file(tmp_path, weights):
    path = write(tmp_path / "params.yaml", DINOV2 | {"backbone.weights": weights, "backbone.pooling": "cls"})
    assert params.load(path).backbone.weights == weights


@pytest.mark.parametrize("keep", ["head", "fine_tuned"])
def test_the_model_to_keep_is_for_folds_and_for_what_is_fine_tuned(tmp_path, keep):
    kept = {"fine_tune.keep": keep}
    assert f"fine_tune.keep: {keep} is for folds: set it to auto, or set split.folds" in message(tmp_path, kept)
    assert f"fine_tune.keep: {keep} needs head.extend: null" in message(tmp_path, kept | EXTENDED | {"split.folds": 5})
    path = write(tmp_path / "params.yaml", kept | {"split.folds": "auto"})
    params.check_folds(path, are_folds=True)
    with pytest.raises(ThawError, match=rf"^fine_tune\.keep: {keep} is for folds, and there is one split"):
        params.check_folds(path, are_folds=False)


def test_an_output_for_two_classes_does_not_concern_a_linear_head(tmp_path):
    params.load(write(tmp_path / "params.yaml", {"head.output": "sigmoid"})).check_classes(THREE)


@pytest.mark.parametrize(("name", "pooling"), [("ResNet50", "avg"), ("VGG16", "avg"), ("ViTS16", "cls")])
def test_a_backbone_is_extended_if_it_keeps_its_classes(tmp_path, name, pooling):
    frozen = {"backbone.name": name, "backbone.pooling": pooling, "head.extend": True, "fine_tune.freeze_depth": "all"}
    assert "head.extend: true needs backbone.top: true" in message(tmp_path, frozen)
    params.load(write(tmp_path / "params.yaml", frozen | {"backbone.top": True}))


def test_an_efficientnet_lite_keeps_its_classes_unasked(tmp_path):
    frozen = {"head.extend": True, "fine_tune.freeze_depth": "all"}
    for top in (False, True):
        assert params.load(write(tmp_path / "params.yaml", frozen | {"backbone.top": top})).backbone.has_top
    for other in ({"backbone.pooling": "max"}, {"backbone.cut": "block5"}):
        assert "head.extend: true needs backbone.top: true" in message(tmp_path, frozen | other)


@pytest.mark.parametrize("changes", [{"backbone.pooling": "max"}, {"backbone.cut": "block5"}])
def test_a_top_is_behind_the_whole_network(tmp_path, changes):
    text = message(tmp_path, changes | {"backbone.top": True})
    expected = "backbone.top: true needs backbone.cut: null and backbone.pooling: avg for EfficientNetLite0"
    assert text.endswith(expected)


def test_a_family_without_classes_has_no_top(tmp_path, monkeypatch):
    from thaw.backbones import registry

    headless = dataclasses.replace(registry.BACKBONES["ResNet50"], name="Headless", build_with_top=None)
    monkeypatch.setitem(registry.BACKBONES, "ResNet50", headless)
    text = message(tmp_path, {"backbone.name": "ResNet50", "backbone.top": True})
    assert text.endswith("backbone.top: true needs a backbone with classes, and Headless has none")


def test_a_freeze_depth_is_checked_as_soon_as_there_is_a_backbone(tmp_path):
    """The stage `backbone` does: it is one of the first, and the work on photographs comes after it."""
    loaded = params.load(
        write(tmp_path / "params.yaml", {"fine_tune.freeze_depth": ["all", "blokc1"], "image.size": 32})
    )
    backbone = {"cut_points": [{"layer": "block1"}, {"layer": "features"}], "behind_cut": ["block2"]}
    with pytest.raises(ThawError, match=r"^fine_tune\.freeze_depth 'blokc1' is no cut point .*did you mean block1"):
        loaded.check_backbone(backbone)
    with pytest.raises(ThawError, match="lies behind backbone"):
        params.load(write(tmp_path / "params.yaml", {"fine_tune.freeze_depth": "block2"})).check_backbone(backbone)
    params.load(write(tmp_path / "params.yaml", {"fine_tune.freeze_depth": "block1"})).check_backbone(backbone)


def test_a_backbone_without_the_classes_or_maps_that_are_needed_is_refused_before_the_work(tmp_path):
    backbone = {"cut_points": [{"layer": "features"}], "behind_cut": [], "classes": 0, "has_maps": False}
    loaded = params.load(write(tmp_path / "params.yaml", EXTENDED | {"backbone.weights": "mine.keras"}))
    with pytest.raises(
        ThawError, match=r"mine\.keras is a trained model without them: .* set head\.extend to this file"
    ):
        loaded.check_backbone(backbone)
    loaded.check_backbone(backbone | {"classes": 1000})
    maps = {"head.kind": "network", "head.conv_blocks": [8], "backbone.pooling": None, "fine_tune.freeze_depth": "all"}
    loaded = params.load(write(tmp_path / "params.yaml", maps))
    with pytest.raises(ThawError, match=r"head\.conv_blocks needs maps, and imagenet returns features"):
        loaded.check_backbone(backbone)
    loaded.check_backbone(backbone | {"has_maps": True})


IMAGES = {
    "image_id": [f"p{i}" for i in range(6)],
    "label": ["cat"] * 3 + ["dog"] * 3,
    "meta_patient": ["a", "a", "b", "b", "", ""],
    "meta_site": ["x"] * 6,
    "meta_empty": [""] * 6,
    "meta_date": [f"2024-0{month}-01" for month in range(1, 7)],
    "meta_german": [f"01.0{month}.2024" for month in range(1, 7)],
    "meta_number": [str(i) for i in range(6)],
    "meta_group": ["", "", "", "u", "u", "v"],
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split.group": "patients"}, "no column meta_patients (did you mean meta_patient"),
        ({"split.group": ["patient", "empty"]}, "the column meta_empty is empty for all photographs"),
        ({"split.group": "meta_site"}, "meta_site is 'x' for all photographs"),
        ({"split.after": "2024-03-01", "split.time": "day"}, "split.time: the photographs have no column meta_day"),
        ({"split.after": "2024-03-01", "split.time": "german"}, "p0 ('01.01.2024' is no date; dates are such as"),
        (
            {"split.after": "2024-03-01", "split.time": "number"},
            "'0' is no date; split.after would have to be a num",
        ),
        ({"split.after": 3, "split.time": "date"}, "'2024-01-01' is no number; split.after would have to be a date"),
        ({"split.after": "2025-03-01", "split.time": "date"}, "no photograph is newer than 2025-03-01; they are from"),
        ({"split.folds": "groups"}, "split.folds: groups: 3 photographs are in no group"),
        ({"split.after": -1, "split.time": "meta_number"}, "all photographs are newer than -1"),
    ],
)
def test_a_column_that_does_not_fit_a_parameter_is_refused_before_a_photograph_is_read(tmp_path, changes, words):
    split = params.load(write(tmp_path / "params.yaml", changes)).split
    with pytest.raises(ThawError, match=re.escape(words)):
        split.check_columns(IMAGES)


@pytest.mark.parametrize("changes", [{"split.folds": 5}, {"split.folds": "groups"}, {"split.after": 3}])
def test_a_split_of_ones_own_that_does_not_go_with_a_parameter_is_refused_before_a_photograph_is_read(
    tmp_path, changes
):
    images = IMAGES | {"meta_subset": ["train", "train", "test"] * 2}
    with pytest.raises(ThawError, match="and the split that was given with the photographs exclude one another"):
        params.load(write(tmp_path / "params.yaml", changes)).split.check_columns(images)
    kept = params.load(write(tmp_path / "params.yaml", {"split.keep_subsets": False, "split.folds": 5})).split
    kept.check_columns(images)


def test_columns_that_fit_are_taken(tmp_path):
    changes = {"split.group": "patient", "split.after": "2024-03-01", "split.time": "date"}
    params.load(write(tmp_path / "params.yaml", changes)).check_photographs(("cat", "dog"), IMAGES)


@pytest.mark.parametrize(("count", "words"), [(1, "1 photograph: too few"), (2, "2 photographs: too few")])
def test_a_class_with_too_few_photographs_for_any_split_is_refused_before_one_is_read(tmp_path, count, words):
    path = write(tmp_path / "params.yaml", {})
    images = {"image_id": ["a"] * 9, "label": ["cat"] * 3 + ["dog"] * count}
    with pytest.raises(ThawError, match=f"^the class 'dog' has {words} to train, validate and test; 3 or more"):
        params.check_photographs(path, ("cat", "dog"), images)


@pytest.mark.parametrize("text", ["soon", "05/01/2024", "01.05.2024", "2024-13-01", "2024", "", float("nan")])
def test_a_time_that_is_none_is_refused_by_the_first_stage(tmp_path, text):
    with pytest.raises(ThawError, match=r"split.after should be a date in quotes, such as .*, or a number, not"):
        params.load(write(tmp_path / "params.yaml", {"split.after": text}))
