"""Share what `dvc push` leaves behind: the run cache with the outputs that it names, and the experiments. See `make
share`.

`dvc push --run-cache` pushes the records of the run cache alone. An experiment knows only a remote that was committed
before it ran: the models of an older one stay on this machine, so it is named here.
"""

import argparse
import subprocess
import sys

from thaw.core.errors import ThawError, run
from thaw.experiments import programs, remote, runs


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Push the run cache and all experiments.", epilog="example: python src/share.py --git-remote origin"
    )
    parser.add_argument("--git-remote", default="origin", help="to push experiments to (default: %(default)s)")
    git_remote = parser.parse_args().git_remote
    records, outputs = remote.push_run_cache()
    print(f"share: pushed {records:,} runs, and {outputs:,} outputs of runs")
    experiments = runs.finished_commits()
    if not experiments:
        print("share: there are no experiments")
    elif git_remote not in programs.git("remote").splitlines():
        print(f"share: no Git remote is called {git_remote}: {len(experiments):,} experiments stay on this machine")
    else:
        push_experiments(experiments, git_remote)
    older = sorted(runs.name_of(ref) for ref, commit in experiments.items() if not remote.knows_remote(commit))
    if older:
        names = ", ".join(older)
        print(
            f"share: these experiments ran before the remote was set, so their models are not pushed: {names}; "
            "run them again",
            file=sys.stderr,
        )
    if programs.git("status", "--porcelain", "--", "dvc.lock", "dvc.yaml", "params.yaml", ".dvc/config"):
        print(
            "share: warning: uncommitted changes are not shared: commit dvc.lock, dvc.yaml, params.yaml, .dvc/config",
            file=sys.stderr,
        )


def push_experiments(experiments: dict[str, str], git_remote: str) -> None:
    """Push experiments (ref → commit); raises ThawError with the names of those that did not arrive.

    `dvc exp push` also succeeds where the remote has another experiment of the same name, and leaves that one there.
    """
    command = programs.dvc("exp", "push", "--all-commits", git_remote)
    status = subprocess.run(command, check=False, env=programs.environment()).returncode
    arrived = runs.commits_on(git_remote)
    absent = sorted(runs.name_of(ref) for ref, commit in experiments.items() if arrived.get(ref) != commit)
    if absent:
        raise ThawError(
            f"{len(absent):,} of {len(experiments):,} experiments did not arrive at {git_remote}: {', '.join(absent)} "
            "(what DVC says of them stands above); all else is on the remote"
        )
    if status:
        raise ThawError(
            f"the outputs of experiments were not all pushed ({programs.shown(command)} {programs.ended(status)}): "
            f"{git_remote} has the experiments themselves"
        )


if __name__ == "__main__":
    run(main)
