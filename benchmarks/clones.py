"""Clones of the last commit for benchmarks that run the pipeline, out of reach of the person's caches and Git name."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from thaw import overlay  # noqa: E402
from thaw.errors import ThawError  # noqa: E402


def clone(path: Path) -> Path:
    """Clone the last commit to `path`, with an empty DVC cache of its own."""
    if run(ROOT, "git", "status", "--porcelain", "--untracked-files=no"):
        print("there are changes that are not committed; what is measured is HEAD", flush=True)
    run(ROOT, "git", "clone", "--quiet", str(ROOT), str(path))
    dvc(path, "cache", "dir", "--quiet", "--local", str(path / ".dvc" / "cache"))
    return path


def fresh(path: Path, **sections: dict) -> Path:
    """Clone the last commit to `path` with `sections` laid over its params.yaml, and commit there that nothing is done.

    Raises ThawError where a parameter is unknown.
    """
    clone(path)
    values = overlay.read(path / "params.yaml")
    for _ in overlay.lay(values, sections):
        pass
    (path / "params.yaml").write_text(overlay.text(values), encoding="utf-8")
    (path / "dvc.lock").unlink(missing_ok=True)
    unsigned = ("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null")
    run(path, "git", *unsigned, "commit", "--quiet", "--allow-empty", "--all", "--message", "nothing is done")
    return path


def dvc(clone: Path, *arguments: str) -> str:
    """Run DVC in a clone and return what it wrote to stdout."""
    return run(clone, sys.executable, "-m", "dvc", *arguments)


def run(folder: Path, *command: str) -> str:
    """Run a command in `folder` and return its stdout; raises ThawError where it fails, having said why on stderr."""
    identity = {f"GIT_{who}_{what}": "benchmarks" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | identity | {"PATH": path}
    result = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise ThawError(f"`{' '.join(command)}` failed, for the reason above")
    return result.stdout
