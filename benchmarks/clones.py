"""Clone the last commit for benchmarks that run the pipeline, without the user's caches and Git name."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from thaw.core import cache, kernels  # noqa: E402
from thaw.core.errors import ThawError  # noqa: E402
from thaw.experiments import params_edit  # noqa: E402

os.environ[cache.LIMIT] = "0"  # what earlier runs have computed is neither read nor added to


def clone(path: Path) -> Path:
    """Clone the last commit to `path`, with an empty DVC cache of its own."""
    if run(ROOT, "git", "status", "--porcelain", "--untracked-files=no"):
        print("uncommitted changes are ignored: HEAD is measured", flush=True)
    run(ROOT, "git", "clone", "--quiet", str(ROOT), str(path))
    dvc(path, "cache", "dir", "--quiet", "--local", str(path / ".dvc" / "cache"))
    return path


def fresh(path: Path, **sections: dict) -> Path:
    """Clone the last commit to `path`, with changed parameters and no results.

    Args:
        path: Folder of the new clone.
        sections: Sections of params.yaml with the keys and values to change.

    Returns:
        `path`. Its commit has no dvc.lock, so that `dvc repro` runs every stage.

    Raises:
        ThawError: If params.yaml has no such key.
    """
    clone(path)
    change(path, **sections)
    (path / "dvc.lock").unlink(missing_ok=True)
    unsigned = ("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null")
    run(path, "git", *unsigned, "commit", "--quiet", "--allow-empty", "--all", "--message", "nothing is done")
    return path


def finished(path: Path) -> Path:
    """Clone the last commit to `path`, with the outputs of the finished run and a cache of its own.

    Nothing comes out of the run cache there. Raises ThawError if an output is not in the cache of this repository.
    """
    clone(path)
    own_cache = dvc(path, "cache", "dir").strip()
    dvc(path, "cache", "dir", "--quiet", "--local", dvc(ROOT, "cache", "dir").strip())
    dvc(path, "checkout", "--quiet")
    dvc(path, "cache", "dir", "--quiet", "--local", own_cache)
    dvc(path, "commit", "--force", "--quiet")
    return path


def undo(path: Path) -> None:
    """Bring a clone of `finished` back to the finished run, after an experiment."""
    run(path, "git", "reset", "--quiet", "--hard")
    dvc(path, "checkout", "--quiet")


def change(clone: Path, **sections: dict) -> None:
    """Change keys of sections of params.yaml. Raises ThawError if there is no such key."""
    values = params_edit.read(clone / "params.yaml")
    params_edit.apply(values, sections)
    (clone / "params.yaml").write_text(params_edit.dump(values), encoding="utf-8")


def dvc(clone: Path, *arguments: str) -> str:
    """Run DVC in a clone and return its stdout."""
    return run(clone, sys.executable, "-m", "dvc", *arguments)


def run(folder: Path, *command: str) -> str:
    """Run a command in `folder` and return its stdout. Raises ThawError if it fails; the reason is on stderr."""
    result = subprocess.run(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise ThawError(f"`{' '.join(command)}` failed, for the reason above")
    return result.stdout


def environment() -> dict[str, str]:
    """Return the environment of a command in a clone: a Git name of its own, and the Python that runs this.

    The kernels that Thaw chose are not in it: Thaw chooses them again, and other programs choose theirs.
    """
    identity = {f"GIT_{who}_{what}": "benchmarks" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    chosen = kernels.KERNELS | kernels.OPENCV
    return {name: value for name, value in os.environ.items() if name not in chosen} | identity | {"PATH": path}
