"""Say whether the run reads files of a person's own: `data/inputs/each_time.yaml`.

DVC sees changes of what lies in the project. Photographs, weights and a model to extend mostly lie elsewhere, so the
stage `fingerprints` has to look at them in every `dvc repro`. `each_time` makes it run: it is `.nan`, which is no
number and not even equal to itself, so DVC finds it changed each time. Without such files it is 0.

Where it runs, it is before any other stage: it refuses what DVC would delete, a repository without a commit, and
bfloat16 where these kernels do not multiply it.
"""

import shutil
import subprocess
from pathlib import Path

from thaw.core import params
from thaw.core.errors import ThawError, run
from thaw.core.files import write_text
from thaw.inputs import named, outputs

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
OUTPUT = Path("data/inputs/each_time.yaml")


def main() -> None:
    parameters = params.load(PARAMS)
    check_commit()
    params.check_kernels(PARAMS)
    download, weights, extend = parameters.download, parameters.backbone.weights, parameters.head.extend
    own = (named.photographs(download), named.cache(download), named.weights(weights), named.model(extend))
    outputs.check_apart([*filter(None, own), *named.labelled(download)], outputs.declared(PIPELINE))
    changeable = list(named.changeable(download, weights, extend))
    write_text(OUTPUT, f"each_time: {'.nan' if changeable else 0}\n")
    print(f"inputs: of your own: {', '.join(changeable) or 'nothing'}")


def check_commit() -> None:
    """Raise ThawError if Git's repository has no commit: DVCLive, which the training logs with, would refuse it."""
    if not shutil.which("git"):  # DVC reads a repository without it
        return
    in_repository, has_commit = (
        subprocess.run(["git", "rev-parse", *query], capture_output=True, check=False).returncode == 0
        for query in (["--git-dir"], ["--verify", "HEAD"])
    )
    if in_repository and not has_commit:
        raise ThawError("this Git repository has no commit, and the training needs one: run `git add .`, `git commit`")


if __name__ == "__main__":
    run(main, stage=__doc__)
