"""Edit a parameter file: its comments, quotes, order and line breaks stay, and the result is valid."""

import codecs
import copy
import io
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError

from thaw.backbones.cut_points import resolve_depths
from thaw.core import params
from thaw.core.errors import ThawError, did_you_mean
from thaw.core.files import atomic_edit, read_json, read_utf8


def apply(values: dict, changes: dict, prefix: str = "") -> list[tuple[str, object, object]]:
    """Put `changes` into `values`, section by section; return the key, old and new value of each that differs.

    A list replaces a list. Raises ThawError if a key is unknown, or if only one of the two values is a section.
    """
    applied = []
    for name, new in changes.items():
        key = f"{prefix}{name}"
        if name not in values:
            raise ThawError(f"unknown parameter {key}{did_you_mean(key, [f'{prefix}{valid}' for valid in values])}")
        old = values[name]
        if isinstance(old, dict) != isinstance(new, dict):
            kind, new_kind = ("a section", "a value") if isinstance(old, dict) else ("a value", "a section")
            raise ThawError(f"{key} is {kind}, and cannot be made {new_kind}")
        if isinstance(new, dict):
            applied += apply(old, new, f"{key}.")
        elif old != new or isinstance(old, bool) != isinstance(new, bool):  # True == 1
            _put(values, name, new)
            applied.append((key, old, new))
    return applied


def _put(section: dict, name: str, new: object) -> None:
    """Set a value. The comments below a list in lines of its own stay: ruamel has them in its last item."""
    old, section[name] = section[name], new
    if not isinstance(old, CommentedSeq) or old.fa.flow_style():
        return
    here = section.ca.items.setdefault(name, [None] * 4)
    here[3] = here[3] or None  # an empty list in its place leaves out a line break
    below = (old.ca.items.get(len(old) - 1) or [None])[0]
    if below and here[2]:
        here[2].value = here[2].value.rstrip("\n") + "\n" + below.value.lstrip("\n")
    elif below:
        here[2] = below


def nest(changes: dict[str, object]) -> dict:
    """Return values by dotted key as sections within sections; raises ThawError if two changes contradict."""
    sections: dict = {}
    for key, value in sorted(changes.items()):  # a section before what is in it
        *names, last = key.split(".")
        section = sections
        for name in names:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise ThawError(f"{key} is given, and {name} has a value of its own as well")
        section[last] = copy.deepcopy(value)
    return sections


def check(path: Path, changes: dict[str, object], cut_points: Path, source: Path | None = None) -> None:
    """Check that a parameter file would be valid with some changes.

    Args:
        path: the parameter file, which is not changed.
        changes: dotted key → value.
        cut_points: backbone.json, which lists the freeze depths of the backbone. If there is no such file yet, or if it
            is of another backbone, freeze depths are not checked.
        source: source.json, which lists the classes. Likewise, if there is none, or if it is of another source, it is
            not checked whether the parameters fit them.

    Raises:
        ThawError: if it would not be valid.
    """
    values = read(path)
    description = ", ".join(f"{key}={value}" for key, value in changes.items())
    apply(values, nest(changes))
    parameters = params.parse(dump(values), f"{path} with {description}" if description else str(path))
    backbone = read_json(cut_points) if cut_points.exists() else {}
    is_other_backbone = any(key.startswith("backbone.") for key in changes) or (
        backbone.get("name", parameters.backbone.name) != parameters.backbone.name
    )
    if "fine_tune.freeze_depth" in changes and backbone and not is_other_backbone:
        resolve_depths(parameters.fine_tune.freeze_depth, backbone)
    found = read_json(source) if source is not None and source.exists() else {}
    are_other_photographs = any(key.startswith("download.") for key in changes) or (
        found.get("name", parameters.download.source) != parameters.download.source
    )
    if found and not are_other_photographs:
        parameters.check_classes(found["classes"])


def read(path: Path) -> dict:
    """Read a YAML file with its comments; raises ThawError if it is missing or no such file."""
    try:
        values = _yaml().load(read_utf8(path))
    except FileNotFoundError:
        raise ThawError(f"{path} is missing: run from the folder that holds it") from None
    except YAMLError as error:
        raise ThawError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ThawError(f"{path} holds no parameters")
    return values


def dump(values: dict) -> str:
    """Return the text of values that `read` returned, with the layout of their file."""
    text = io.StringIO()
    _yaml().dump(values, text)
    return text.getvalue()


def write(path: Path, text: str) -> None:
    """Write a file of parameters with the line breaks, and the byte order mark, that it has."""
    before = path.read_bytes()
    mark = "\ufeff" if before.startswith(codecs.BOM_UTF8) else ""
    with atomic_edit(path) as temporary:
        temporary.write_text(mark + text, encoding="utf-8", newline="\r\n" if b"\r\n" in before else "\n")


def _yaml() -> YAML:
    """Return a reader and writer that keeps the comments, quotes and layout of a file."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000  # no line is folded
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml
