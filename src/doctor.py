"""Print what somebody needs to help you: `python src/doctor.py`, or `make doctor`.

Versions, processor, memory, disk, the kind of the DVC remote, and the state of Git, DVC and the pipeline. It prints no
path, no address, no name of a person and no secret, so that it can be put into a report as it is. It works without
`.venv`, too, and then says less. What cannot be found out is `unknown`.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - an older one cannot import what follows, and is what is asked about
    sys.exit(f"thaw: Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.12 doctor")

# isort: split
import argparse
from pathlib import Path

from thaw.core.errors import run
from thaw.support import facts

PROJECT = Path(__file__).resolve().parent.parent


def main() -> None:
    argparse.ArgumentParser(
        description="Print what somebody needs to help you: no path, no name, no secret.",
        epilog="example: python src/doctor.py > doctor.txt",
    ).parse_args()
    lines = facts.collect(PROJECT, PROJECT / "params.yaml")
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:{width}}  {value}")


if __name__ == "__main__":
    run(main)
