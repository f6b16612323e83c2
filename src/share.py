"""Share what `dvc push` leaves behind: the run cache, with what it tells of, and the experiments. See `make share`.

`dvc push --run-cache` pushes the records of the run cache alone, not the outputs that they name; and an experiment
knows only a remote that was committed before it ran, so that the models of an older one would stay without a word.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from thaw import experiments
from thaw.errors import ThawError, run


def main() -> None:
    parser = argparse.ArgumentParser(description="Push the run cache and all experiments.")
    parser.add_argument("--git-remote", default="origin", help="to push experiments to (default: %(default)s)")
    git_remote = parser.parse_args().git_remote
    runs, outputs = push_run_cache()
    print(f"share: {runs:,} runs and {outputs:,} more of their outputs pushed")
    finished = experiments.names()
    if not finished:
        print("share: there are no experiments")
    elif git_remote not in git("remote"):
        print(f"share: no Git remote is called {git_remote}: {len(finished):,} experiments stay on this machine")
    elif subprocess.run([sys.executable, "-m", "dvc", "exp", "push", "--all-commits", git_remote]).returncode:
        raise ThawError(f"the experiments were not all pushed to {git_remote}; all else is on the remote")
    older = sorted(name for name, commit in finished.items() if not knows_remote(commit))
    if older:
        names = ", ".join(older)
        print(f"share: older than the remote, and so without their models: {names}; run them again", file=sys.stderr)
    if git("status", "--porcelain", "--", "dvc.lock", "dvc.yaml", "params.yaml", ".dvc/config"):
        print("share: what is not committed others do not find: git commit dvc.lock and the like", file=sys.stderr)


def push_run_cache() -> tuple[int, int]:
    """Push the records of all runs and the outputs that are here; return how many of each were pushed."""
    from botocore.exceptions import BotoCoreError, ClientError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    os.umask(0o002)  # `shared group` makes folders of objects writable to the group, but not those of runs
    try:
        with Repo() as repo:
            runs = [(path.parent.name, path.name) for path in Path(repo.stage_cache.cache_dir).glob("*/*/*")]
            outputs = set().union(*repo.stage_cache.get_used_objs(runs).values())
            here = {output for output in outputs if repo.cache.local.exists(output.value)}
            return len(repo.stage_cache.push(None)), len(repo.cloud.push(here).transferred)
    except (DvcException, BotoCoreError, ClientError, OSError) as error:
        raise ThawError(f"the run cache was not pushed: {error}") from None


def knows_remote(commit: str) -> bool:
    return any(line.strip().startswith("remote =") for line in git("show", f"{commit}:.dvc/config"))


def git(*arguments: str) -> list[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


if __name__ == "__main__":
    run(main)
