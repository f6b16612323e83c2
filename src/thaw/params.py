"""params.yaml as typed, validated models: every key, its type and its range.

A stage validates the whole file before it works, so that a mistake in any section is found by the first stage
that runs. The defaults stand in params.yaml alone: here every key is required, except where a source is not used.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from thaw.backbone_names import BACKBONES, WEIGHT_FILES
from thaw.errors import ThawError, nearest


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Share = Annotated[float, Field(gt=0, lt=1)]
Amplitude = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
Units = Annotated[int, Field(ge=1, le=65_536)]
AIM = r"best_f1|(precision|recall):(0?\.\d*[1-9]\d*|1(\.0*)?)"


class Elpv(Section):
    threshold: Annotated[float, Field(ge=0, lt=1)]


class Folder(Section):
    path: str | None


class OpenImages(Section):
    classes: Annotated[list[str], Field(min_length=1)]
    negatives: str | list[str] | None
    max_per_class: Annotated[int, Field(ge=3)] | None
    subsets: Annotated[list[Literal["train", "validation", "test"]], Field(min_length=1)]
    seed: Seed
    annotations_url: Annotated[str, Field(pattern=r"^https?://[^/\s]+")]
    images_url: Annotated[str, Field(pattern=r"^https?://[^/\s]+")]
    cache_dir: Annotated[str, Field(min_length=1)]
    workers: Annotated[int, Field(ge=1, le=256)]

    @field_validator("negatives", mode="before")
    @classmethod
    def _negatives_are_of_a_kind(cls, value: object) -> object:
        names = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
        if value is None or value == "verified" or names:
            return value
        raise ValueError(f"download.open_images.negatives should be verified, a list of classes or null, not {value!r}")

    @model_validator(mode="after")
    def _classes_are_told_apart(self):
        section = "download.open_images"
        if len(self.classes) == 1 and self.negatives is None:
            raise ValueError(f"{section}.negatives must be verified or a list of classes where classes names only one")
        if len(self.classes) > 1 and self.negatives is not None:
            raise ValueError(f"{section}.negatives must be null where classes names two or more: they are told apart")
        named = self.classes + (self.negatives if isinstance(self.negatives, list) else [])
        for names in (named, self.subsets):
            if repeated := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{section} names {repeated[0]!r} more than once")
        return self


class FiftyOne(Section):
    dataset: str | None
    label_field: Annotated[str, Field(min_length=1)]


class Download(Section):
    source: Literal["elpv", "open_images", "folder", "fiftyone"]
    elpv: Elpv
    open_images: OpenImages
    folder: Folder
    fiftyone: FiftyOne

    @model_validator(mode="after")
    def _source_is_described(self):
        if self.source == "folder" and not self.folder.path:
            raise ValueError("download.folder.path must name a folder where download.source is folder")
        if self.source == "fiftyone" and not self.fiftyone.dataset:
            raise ValueError("download.fiftyone.dataset must name a dataset where download.source is fiftyone")
        return self


class Split(Section):
    validation: Share
    test: Share
    seed: Seed
    keep_subsets: bool
    group_duplicates: bool

    @model_validator(mode="after")
    def _training_images_remain(self):
        if self.validation + self.test >= 1:
            raise ValueError("split.validation + split.test must be below 1: nothing would be left to train on")
        return self


class Augment(Section):
    copies: Annotated[int, Field(ge=0, le=1000)]
    seed: Seed
    flip_horizontal: bool
    flip_vertical: bool
    quarter_turns: bool
    rotation: Annotated[float, Field(ge=0, le=180)]
    zoom: Amplitude
    shear: Annotated[float, Field(ge=0, lt=60)]
    translation: Amplitude
    crop: Annotated[float, Field(gt=0, le=1)]
    brightness: Amplitude
    contrast: Amplitude
    saturation: Annotated[float, Field(ge=0, le=1)]
    hue: Annotated[float, Field(ge=0, le=180)]


class Backbone(Section):
    name: Literal[tuple(BACKBONES)]
    weights: str | None
    cut: str | None
    pooling: Literal["avg", "max", None]
    seed: Seed

    @field_validator("cut")
    @classmethod
    def _cut_is_a_layer(cls, value: str | None) -> str | None:
        if value in ("all", "none"):
            raise ValueError(f"backbone.cut should be a layer, a block, or null for all of the network, not {value!r}")
        return value

    @field_validator("weights", mode="before")
    @classmethod
    def _weights_are_of_a_kind(cls, value: object) -> object:
        if value in (None, "imagenet") or (isinstance(value, str) and value.endswith(WEIGHT_FILES)):
            return value
        raise ValueError(
            f"backbone.weights should be imagenet, null, or a file that ends in {', '.join(WEIGHT_FILES[:-1])} or "
            f"{WEIGHT_FILES[-1]}, not {value!r}"
        )


class Image(Section):
    size: Annotated[int, Field(ge=32, le=2048)] | None
    resize: Literal["crop", "pad", "squash"]
    engine: Literal["openvino", "tensorflow"]


class Training(Section):
    """What the head, where it is a network, and fine-tuning have in common."""

    section: ClassVar[str]

    class_weight: Literal["balanced", None]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    patience: Annotated[int, Field(ge=1)] | None
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    learning_rate: Positive
    warmup_epochs: Annotated[float, Field(ge=0)]
    weight_decay: Amplitude
    label_smoothing: Amplitude
    seed: Seed


class Head(Training):
    section = "head"

    kind: Literal["linear", "network"]
    extend: bool | str | None
    augmented: Annotated[list[bool], Field(min_length=1, max_length=2)]
    strengths: Annotated[list[Positive], Field(min_length=1)]
    conv_blocks: list[Units]
    hidden: list[Units]
    dropout: Amplitude
    output: Literal["softmax", "sigmoid"]

    @field_validator("extend", mode="before")
    @classmethod
    def _extended_is_a_model(cls, value: object) -> object:
        if value is None or isinstance(value, bool) or (isinstance(value, str) and value.endswith(".keras")):
            return value
        raise ValueError(f"head.extend should be true, null, or a .keras file of Thaw's, not {value!r}")

    @field_validator("augmented")
    @classmethod
    def _each_training_is_tried_once(cls, value: list[bool]) -> list[bool]:
        if len(set(value)) < len(value):
            raise ValueError(f"head.augmented should be [false], [true] or [false, true], not {value!r}")
        return value


class FineTune(Training):
    section = "fine_tune"

    freeze_depth: str | list[str]
    cache: bool
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    ema: Share | None
    prune_above: list[Positive | None]
    gradients: Literal["float32", "bfloat16"]

    @field_validator("freeze_depth", mode="before")
    @classmethod
    def _depths_are_names(cls, value: object) -> object:
        if isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(d, str) for d in value)):
            return value
        raise ValueError(f"fine_tune.freeze_depth should be a string or a list of strings, not {value!r}")

    @model_validator(mode="after")
    def _every_depth_has_an_epoch(self):
        if isinstance(self.freeze_depth, list) and len(self.freeze_depth) > self.epochs:
            raise ValueError("fine_tune.epochs must be at least the number of depths in fine_tune.freeze_depth")
        return self


class Evaluate(Section):
    test_time_flips: Literal["horizontal", "vertical", "both", None]
    threshold: Share | str
    bootstrap: Annotated[int, Field(ge=100, le=1_000_000)]
    bins: Annotated[int, Field(ge=2, le=1000)]
    shown: Annotated[int, Field(ge=0, le=100)]
    seed: Seed

    @field_validator("threshold", mode="before")
    @classmethod
    def _threshold_is_an_aim(cls, value: object) -> object:
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1
        if number or (isinstance(value, str) and re.fullmatch(AIM, value)):
            return value
        raise ValueError(
            "evaluate.threshold should be a number between 0 and 1, best_f1, precision:0.95 or recall:0.95 "
            f"(or another number), not {value!r}"
        )


class Params(Section):
    download: Download
    split: Split
    augment: Augment
    image: Image
    backbone: Backbone
    head: Head
    fine_tune: FineTune
    evaluate: Evaluate

    @model_validator(mode="after")
    def _head_fits_the_backbone(self):
        if self.head.kind == "linear" and self.backbone.pooling is None:
            raise ValueError("head.kind linear wants pooled features: set backbone.pooling to avg or max")
        if self.head.kind == "network" and self.head.conv_blocks and self.backbone.pooling:
            raise ValueError("head.conv_blocks wants maps: set backbone.pooling to null, or head.conv_blocks to []")
        return self

    @model_validator(mode="after")
    def _extended_model_stays_as_it_is(self):
        if self.head.extend and self.head.kind != "linear":
            raise ValueError("head.extend wants head.kind linear: rows beside those that the model has")
        if self.head.extend and self.fine_tune.freeze_depth != "all":
            raise ValueError("head.extend wants fine_tune.freeze_depth all: what the old classes stand on stays")
        if self.head.extend and self.evaluate.threshold != 0.5:
            raise ValueError("evaluate.threshold wants two classes: with head.extend the likeliest is the answer")
        return self

    @model_validator(mode="after")
    def _photographs_are_large_enough(self):
        least = BACKBONES[self.backbone.name].least
        if self.image.size is not None and self.image.size < least:
            raise ValueError(f"image.size should be at least {least} for {self.backbone.name}, not {self.image.size}")
        return self


class _Loader(yaml.SafeLoader):
    """Takes 1e-5 for a number as DVC does, who also writes the file: by YAML 1.1, which PyYAML follows, it is text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load(path: Path) -> Params:
    """Read and validate a parameter file; raises ThawError with one line that names each wrong key."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ThawError(f"{path} is missing: run from the folder that holds it") from None
    except UnicodeDecodeError as error:
        raise ThawError(f"{path} is not valid YAML: {error}") from error


def parse(text: str, name: str) -> Params:
    """Validate parameters as `load` does; errors call them `name`."""
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ThawError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ThawError(f"{name} holds no parameters: it should have the sections {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise ThawError(f"{name}: " + "; ".join(_describe(e) for e in error.errors())) from None


def _describe(error: dict) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return f"unknown parameter {key}{nearest(key, _keys(Params))}"
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "value_error":  # a rule over several keys, which names them itself
        return str(error["ctx"]["error"])
    if error["type"] == "model_type":
        return f"{key} should be a section with parameters of its own, not {error['input']!r}"
    message = error["msg"].replace("a valid integer", "a whole number").replace(" None", " null")
    message = re.sub(r"^(Input|List) |valid | after validation.*", "", message)
    hint = ""
    if error["type"] == "literal_error":
        literals = _literals(error)
        hint = nearest(error["input"], literals) if isinstance(error["input"], str) else ""
        if len(literals) > 8:
            message = f"should be one of {len(literals)} names"
    or_null = ", or null" if _nullable(error["loc"]) else ""
    return f"{key} {message}{or_null}, not {error['input']!r}{hint}"


def _nullable(location: Sequence[str | int]) -> bool:
    section: object = Params
    for name in location:
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return False  # an item of a list
        section = section.model_fields[name].annotation
    return type(None) in get_args(section)


def _literals(error: dict) -> list[str]:
    expected = error["ctx"]["expected"].replace(" or ", ",").replace("None", "null")
    return [part.strip("' ") for part in expected.split(",")]


def _keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """List every parameter of a section by its dotted name."""
    keys = []
    for name, field in section.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        keys += _keys(field.annotation, f"{prefix}{name}.") if nested else [prefix + name]
    return keys
