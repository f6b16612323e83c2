"""Print what somebody needs to help you: `python src/doctor.py`, or `make doctor`.

Versions, processor, memory, disk, the kind of the DVC remote, and the state of Git, DVC and the pipeline. It prints no
path, no address, no name of a person and no secret, so that it can be put into a report as it is. It works without
`.venv`, too, and then says less.
"""

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
