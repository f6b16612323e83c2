"""Lay a recipe over params.yaml: `python src/recipe.py NAME` takes over the values of `recipes/NAME.yaml`.

Only the values that differ are touched: comments, order and everything else of params.yaml stay. The result is
validated before it is written; the changes are printed.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from thaw import params
from thaw.errors import ThawError, nearest, run
from thaw.files import whole_file

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")


def main() -> None:
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    parser = argparse.ArgumentParser(description="Lay a recipe over params.yaml.")
    parser.add_argument("name", help=f"one of: {', '.join(names)}")
    name = parser.parse_args().name
    if name not in names:
        raise ThawError(f"there is no recipe {name!r} in {RECIPES}{nearest(name, names)}")
    params.load(PARAMS)  # a mistake that was there before is not the recipe's
    values = read(PARAMS)
    changes = list(overlay(values, read(RECIPES / f"{name}.yaml")))
    text = io.StringIO()
    yaml().dump(values, text)
    params.parse(text.getvalue(), f"{PARAMS} with {RECIPES}/{name}.yaml")
    with whole_file(PARAMS) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    for key, old, new in changes:
        print(f"{key}: {shown(old)} → {shown(new)}")
    print(f"recipe: {len(changes)} changes in {PARAMS}" if changes else f"recipe: {PARAMS} has it all already")


def overlay(values: dict, recipe: dict, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """Put the values of `recipe` into `values`, section by section; yields the key, old and new value of each change.

    A list replaces a list. Raises ThawError where a key is unknown, or a section stands against a value.
    """
    for name, new in recipe.items():
        key = f"{prefix}{name}"
        if name not in values:
            raise ThawError(f"unknown parameter {key}{nearest(key, [f'{prefix}{known}' for known in values])}")
        old = values[name]
        if isinstance(old, dict) != isinstance(new, dict):
            raise ThawError(f"{key} is {'a section' if isinstance(old, dict) else 'a value'}, and not so in the recipe")
        if isinstance(new, dict):
            yield from overlay(old, new, f"{key}.")
        elif old != new:
            values[name] = new
            yield key, old, new


def read(path: Path) -> dict:
    try:
        values = yaml().load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ThawError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ThawError(f"{path} holds no parameters")
    return values


def yaml() -> YAML:
    """A reader and writer that keeps comments, quotes and the layout of params.yaml."""
    keeping = YAML()
    keeping.preserve_quotes = True
    keeping.width = 10_000  # no line is folded
    keeping.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    return keeping


def shown(value: object) -> str:
    """A value as params.yaml has it, on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    run(main)
