"""Apply a recipe to params.yaml: `python src/recipe.py NAME` takes over the values of `recipes/NAME.yaml`.

Only the values that differ are touched: comments, quotes and order of params.yaml stay. The result is
validated before it is written; the changes are printed.
"""

import argparse
import json
from pathlib import Path

from thaw.core import params
from thaw.core.errors import ThawError, did_you_mean, run
from thaw.core.words import plural
from thaw.experiments import params_edit

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")


def main() -> None:
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    parser = argparse.ArgumentParser(
        description="Apply a recipe to params.yaml.", epilog="example: python src/recipe.py alpaca"
    )
    parser.add_argument("name", help=f"one of: {', '.join(names)}")
    name = parser.parse_args().name
    if name not in names:
        raise ThawError(f"there is no recipe {name!r} in {RECIPES}{did_you_mean(name, names)}")
    params.load(PARAMS)  # a mistake that was there before is not the recipe's
    values = params_edit.read(PARAMS)
    changes = params_edit.apply(values, params_edit.read(RECIPES / f"{name}.yaml"))
    text = params_edit.dump(values)
    params.parse(text, f"{PARAMS} with {RECIPES}/{name}.yaml")
    params_edit.write(PARAMS, text)
    for key, old, new in changes:
        print(f"{key}: {format_value(old)} → {format_value(new)}")
    count = plural(len(changes), "change")
    print(f"recipe: {count} in {PARAMS}" if changes else f"recipe: {PARAMS} has it all already")


def format_value(value: object) -> str:
    """Return a value as params.yaml has it, on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    run(main)
