"""params.yaml as typed, validated models: how it is read, and what its errors say.

Each section is a module of `thaw.parameters`; `thaw.parameters.whole` combines them. Every stage validates the whole
file before it works: the first stage that runs reports a mistake in any section. Default values are in params.yaml
only: every key is required.
"""

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from thaw.core import kernels
from thaw.core.errors import ThawError, did_you_mean
from thaw.core.files import read_utf8
from thaw.core.section import Section, as_written


def load(path: Path) -> Section:
    """Read and validate a parameter file; raises ThawError with one line that names every wrong key."""
    try:
        return parse(read_utf8(path), str(path))
    except FileNotFoundError:
        raise ThawError(f"{path} is missing: run from the folder that holds it") from None


def parse(text: str, name: str) -> Section:
    """Validate the text of a parameter file as `load` does; error messages call the file `name`.

    It is read as DVC reads it, by YAML 1.2: 1e-3 is a number, 010 is ten, and `no` is a word. PyYAML reads 1.1.
    """
    model = _all_sections()
    try:
        values = YAML(typ="safe").load(text)
    except YAMLError as error:
        reason = str(error).partition("To suppress this check")[0]  # an advice for programmers
        raise ThawError(f"{name} is not valid YAML: {' '.join(reason.split())}") from error
    if not isinstance(values, dict):
        raise ThawError(f"{name} holds no parameters: it should have the sections {', '.join(model.model_fields)}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ThawError(f"{name}: " + "; ".join(_describe(e, model) for e in error.errors())) from None


def check_classes(path: Path, classes: Sequence[str]) -> None:
    """Check the parameters of all sections against the classes of the data.

    A stage calls this as soon as it has the classes, before it works. It then reads no parameter of another section
    into its output. Raises ThawError, one line, if a parameter does not fit the classes.
    """
    load(path).check_classes(classes)


def check_photographs(path: Path, classes: Sequence[str], images: Mapping[str, Sequence[str]]) -> None:
    """Check the parameters of all sections against the photographs, before any is read: as `check_classes` does.

    `images`: their columns, see `Split.check_columns`. Raises ThawError, one line, if a parameter does not fit them.
    """
    load(path).check_photographs(classes, images)


def check_kernels(path: Path) -> None:
    """Check the parameters of all sections against the kernels that the libraries use in this process.

    Raises ThawError, one line, if a parameter does not fit them.
    """
    load(path).check_kernels(kernels.CHOICE)


def check_folds(path: Path, are_folds: bool) -> None:
    """Check the parameters of all sections against how the images were divided: in folds, or in one split.

    Raises ThawError, one line, if a parameter does not fit it.
    """
    load(path).check_folds(are_folds)


def check_task(path: Path, has_several_labels: bool) -> None:
    """Check the parameters of all sections against how many labels each photograph has: one, or several.

    Raises ThawError, one line, if a parameter does not fit it.
    """
    load(path).check_task(has_several_labels)


def check_backbone(path: Path, backbone: Mapping) -> None:
    """Check the parameters of all sections against the backbone; it is the content of backbone.json.

    Raises ThawError, one line, if a parameter does not fit it.
    """
    load(path).check_backbone(backbone)


def check_extended(path: Path, model: Mapping | None, used: Mapping | None = None) -> None:
    """Check the section `image` against that of the model that `head.extend` names; None: it is not known.

    `used` is the section of the run, as soon as its `null` and `auto` are resolved. Raises ThawError, one line, if
    the model was trained on other views.
    """
    load(path).check_extended(model, used)


def _all_sections() -> type[Section]:
    """Return the model of the whole file.

    It is imported by name: so a stage depends only on the modules of the sections that it reads. A mistake in another
    section can stop a stage, but never changes what the stage writes.
    """
    return importlib.import_module("thaw.parameters.whole").Params


def flatten(values: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield (dotted name, value) of each parameter in sections within sections, in their order."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _describe(error: dict, model: type[Section]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return f"unknown parameter {key}{did_you_mean(key, _keys(model))}"
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "value_error":  # a rule about several keys: its message names them
        return str(error["ctx"]["error"])
    if error["type"] == "model_type":
        return f"{key} should be a section with parameters of its own, not {as_written(error['input'])}"
    message = error["msg"].replace("a valid integer", "a whole number").replace(" None", " null")
    message = re.sub(r"^(Input|List) |valid | after validation.*", "", message)
    hint = ""
    if error["type"] == "literal_error":
        literals = _literals(error)
        hint = did_you_mean(error["input"], literals) if isinstance(error["input"], str) else ""
        if len(literals) > 8:
            message = f"should be one of {len(literals)} names"
    if error["type"] == "string_type" and error["input"] is not None and not isinstance(error["input"], list | dict):
        hint = ": put it in quotes"
    if error["type"] == "bool_type":
        hint = " (true or false)"
    or_null = ", or null" if _nullable(error["loc"], model) else ""
    return f"{key} {message}{or_null}, not {as_written(error['input'])}{hint}"


def _nullable(location: Sequence[str | int], model: type[Section]) -> bool:
    section: object = model
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
