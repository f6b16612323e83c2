"""What the scripts of all peers share: their options and what they print and write. It needs no package."""

import argparse
import csv
import json
import time
from collections.abc import Iterable
from pathlib import Path

START = time.perf_counter()  # a script imports this module before the heavy ones, whose import counts


def options(description: str, model: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all scripts have; `model` names the second argument, a file."""
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(model, type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--predictions", type=Path)
    return parser


def report(part: str, accuracy: float) -> None:
    """Print a line of JSON: the seconds since the process started, and the validation accuracy."""
    print(json.dumps({"part": part, "seconds": time.perf_counter() - START, "accuracy": accuracy}), flush=True)


def write_predictions(path: Path, predictions: Iterable[tuple[str | Path, str]]) -> None:
    """Write a row for each photograph: its name and the predicted class."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows((Path(image).name, label) for image, label in predictions)
