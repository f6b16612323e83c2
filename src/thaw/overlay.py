"""Values laid over a parameter file: its comments, quotes and order stay, and the result is valid."""

import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from thaw import params
from thaw.backbones.cut_points import resolve
from thaw.errors import ThawError, nearest


def lay(values: dict, changes: dict, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """Put `changes` into `values`, section by section; yields the key, old and new value of each that differs.

    A list replaces a list. Raises ThawError where a key is unknown, or a section stands against a value.
    """
    for name, new in changes.items():
        key = f"{prefix}{name}"
        if name not in values:
            raise ThawError(f"unknown parameter {key}{nearest(key, [f'{prefix}{known}' for known in values])}")
        old = values[name]
        if isinstance(old, dict) != isinstance(new, dict):
            was, is_now = ("a section", "a value") if isinstance(old, dict) else ("a value", "a section")
            raise ThawError(f"{key} is {was}, and cannot be made {is_now}")
        if isinstance(new, dict):
            yield from lay(old, new, f"{key}.")
        elif old != new or isinstance(old, bool) != isinstance(new, bool):  # True == 1
            values[name] = new
            yield key, old, new


def nested(changes: dict[str, object]) -> dict:
    """Return values by dotted key as sections within sections; raises ThawError where one is given in two ways."""
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


def check(path: Path, changes: dict[str, object], cut_points: Path) -> None:
    """Raise ThawError where the file at `path` would not be valid with `changes`, by dotted key.

    A freeze depth has to be one of the backbone's, as `cut_points`, its backbone.json, lists them where it is there.
    """
    values = read(path)
    described = ", ".join(f"{key}={value}" for key, value in changes.items())
    for _ in lay(values, nested(changes)):
        pass
    depths = params.parse(text(values), f"{path} with {described}" if described else str(path)).fine_tune.freeze_depth
    of_backbone = any(key.startswith("backbone.") for key in changes)
    if "fine_tune.freeze_depth" in changes and cut_points.exists() and not of_backbone:
        backbone = json.loads(cut_points.read_text(encoding="utf-8"))
        layers = [point["layer"] for point in backbone["cut_points"]]
        for depth in [depths] if isinstance(depths, str) else depths:
            resolve(depth, layers, backbone["behind_cut"])


def read(path: Path) -> dict:
    """Read a YAML file with its comments; raises ThawError where it is none."""
    try:
        values = _yaml().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ThawError(f"{path} is missing: run from the folder that holds it") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ThawError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ThawError(f"{path} holds no parameters")
    return values


def text(values: dict) -> str:
    """Return what `read` read, as it was laid out."""
    written = io.StringIO()
    _yaml().dump(values, written)
    return written.getvalue()


def _yaml() -> YAML:
    """A reader and writer that keeps comments, quotes and the layout of a file."""
    keeping = YAML()
    keeping.preserve_quotes = True
    keeping.width = 10_000  # no line is folded
    keeping.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    return keeping
