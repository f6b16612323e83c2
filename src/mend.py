"""Mend the DVC remote: `python src/mend.py`, on a machine that has the data, replaces what is damaged or missing there.

A pull with `verify` takes nothing that is damaged. But a push does not check what the remote has already, nor the
single files of a folder that it once had. Here every object that this machine's cache has, too, is read from the
remote. It is replaced if it is not what its name says. What a folder on the remote, or this commit, lacks there is
added.
"""

import argparse

from thaw.core.errors import ThawError, run
from thaw.experiments import remote


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Replace what lies damaged on the DVC remote.", epilog="example: python src/mend.py --remote store"
    )
    parser.add_argument("--remote", metavar="NAME", help="default: the default remote")
    mended = remote.mend(parser.parse_args().remote)
    counts = f"{mended.damaged:,} lay damaged, and {mended.missing:,} were missing; {mended.replaced:,} are replaced"
    print(f"mend: of {mended.read:,} objects on the remote {counts}")
    if mended.left:
        raise ThawError(f"this machine has no undamaged copy of {', '.join(mended.left)}: run mend.py on one that has")


if __name__ == "__main__":
    run(main)
