"""Lay a recipe over params.yaml: `python src/recipe.py NAME` takes over the values of `recipes/NAME.yaml`.

Only the values that differ are touched: comments, quotes and order of params.yaml stay. The result is
validated before it is written; the changes are printed.
"""

import argparse
import json
from pathlib import Path

from thaw import overlay, params
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
    values = overlay.read(PARAMS)
    changes = list(overlay.lay(values, overlay.read(RECIPES / f"{name}.yaml")))
    text = overlay.text(values)
    params.parse(text, f"{PARAMS} with {RECIPES}/{name}.yaml")
    with whole_file(PARAMS) as temporary:
        temporary.write_text(text, encoding="utf-8")
    for key, old, new in changes:
        print(f"{key}: {shown(old)} → {shown(new)}")
    print(f"recipe: {len(changes)} changes in {PARAMS}" if changes else f"recipe: {PARAMS} has it all already")


def shown(value: object) -> str:
    """A value as params.yaml has it, on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    run(main)
