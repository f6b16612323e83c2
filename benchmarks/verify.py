"""Run the pipeline anew from the last commit, and say output by output whether it is what that commit has.

    python benchmarks/verify.py            in a scratch clone with a cache of its own
    python benchmarks/verify.py --cache    no run: look for damage in DVC's cache and in the outputs here

The exit status is 0 where every output is identical, or every metric lies within the 95 % interval of the committed
one, as on another kind of processor; else 1.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from thaw.errors import ThawError, run  # noqa: E402
from thaw.provenance import md5  # noqa: E402

METRICS = "reports/metrics.json"
MAIN = ("accuracy_weighted", "balanced_accuracy_weighted", "roc_auc_weighted", "log_loss_weighted")


class Output(NamedTuple):
    stage: str
    path: str
    identical: bool


class Difference(NamedTuple):
    """A metric that is another one now, with the committed interval."""

    name: str
    before: float
    after: float | None
    low: float
    high: float

    @property
    def within(self) -> bool:
        return self.after is not None and self.low <= self.after <= self.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", action="store_true", help="look for damage in DVC's cache and outputs; run nothing")
    if parser.parse_args().cache:
        sys.exit(not check_cache())
    committed = subprocess.run(["git", "show", "HEAD:./dvc.lock"], capture_output=True, text=True)
    if committed.returncode:
        raise ThawError("HEAD has no dvc.lock to compare with: run `dvc repro`, and commit what it wrote")
    if git("status", "--porcelain", "--untracked-files=no"):
        print("verify: there are changes that are not committed; what is verified is HEAD", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary, "clone")
        git("clone", "--quiet", ".", str(clone))
        before = read(clone / METRICS)
        if not before:
            raise ThawError(f"HEAD has no {METRICS} to compare with: run `dvc repro`, and commit what it wrote")
        run_anew(clone)
        compared = compare(yaml.safe_load(committed.stdout), yaml.safe_load((clone / "dvc.lock").read_text()))
        after = read(clone / METRICS)
        changed = git("-C", str(clone), "status", "--porcelain").splitlines()
    for one in compared:
        print(f"{one.stage:20} {one.path:46} {'identical' if one.identical else 'DIFFERS'}")
    for line in changed:
        print(f"git: {line}")
    found = list(differences(before, after))
    for one in found:
        if not one.within or one.name.rpartition(".")[2] in MAIN:
            now = "none" if one.after is None else f"{one.after:.4f}"
            interval = f"({one.low:.4f} to {one.high:.4f}){'' if one.within else ': OUTSIDE'}"
            print(f"{one.name}: {one.before:.4f} was committed, {now} came out {interval}")
    sentence, good = verdict(compared, changed, found)
    print(f"verify: {sentence}")
    sys.exit(not good)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def read(metrics: Path) -> dict:
    return json.loads(metrics.read_text()) if metrics.exists() else {}


def run_anew(clone: Path) -> None:
    """Run every stage, whatever caches and settings the person has."""
    dvc = (sys.executable, "-m", "dvc")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    cache = str(clone / ".dvc/cache")
    subprocess.run([*dvc, "cache", "dir", "--quiet", "--local", cache], cwd=clone, env=environment, check=True)
    result = subprocess.run([*dvc, "repro", "--force"], cwd=clone, env=environment)
    if result.returncode:
        raise ThawError("the run in the clone failed, for the reason above: HEAD cannot be reproduced here")


def outputs(pipeline: dict) -> Iterator[tuple[str, str]]:
    """Yield the stage and the path of each output of a dvc.yaml."""
    for stage, fields in pipeline["stages"].items():
        for kind in ("outs", "metrics", "plots"):
            for entry in fields.get(kind, []):
                yield stage, entry if isinstance(entry, str) else next(iter(entry))


def locked(lock: dict) -> dict[tuple[str, str], str]:
    """Return the hash of each output of a dvc.lock by stage and path."""
    return {
        (stage, out["path"]): out["md5"] for stage, fields in lock["stages"].items() for out in fields.get("outs", [])
    }


def compare(before: dict, after: dict) -> list[Output]:
    """Compare the outputs of two dvc.lock files, in the order of the first; one that either lacks differs."""
    old, new = locked(before), locked(after)
    return [Output(*key, old.get(key) == new.get(key)) for key in [*old, *(key for key in new if key not in old)]]


def differences(before: dict, after: dict, prefix: str = "") -> Iterator[Difference]:
    """Yield each metric with an interval that is not what it was; None and outside is one that is gone."""
    for key, value in before.items():
        new = after.get(key)
        if isinstance(value, dict):
            yield from differences(value, new if isinstance(new, dict) else {}, f"{prefix}{key}.")
        elif None not in (low := before.get(f"{key}_low"), high := before.get(f"{key}_high"), value) and new != value:
            yield Difference(prefix + key, value, new, low, high)


def verdict(compared: list[Output], changed: list[str], found: list[Difference]) -> tuple[str, bool]:
    """Return the outcome as a sentence, and whether it is a good one."""
    same = sum(one.identical for one in compared)
    if same == len(compared):
        but = f", but Git sees changes in {', '.join(line[3:] for line in changed)}" if changed else ""
        return f"all {same} outputs are identical to those of the commit{but}", True
    counted = f"{same} of {len(compared)} outputs are identical to those of the commit"
    outside = [one.name for one in found if not one.within]
    if outside:
        return f"{counted}; {len(outside)} metrics lie outside their 95 % intervals, {outside[0]} first", False
    return f"{counted}; {len(found)} metrics differ, all of them within their 95 % intervals", True


# --- Damage: DVC takes a cached object that is read-only for whole, and never looks into it again ---


def check_cache() -> bool:
    """Delete the damaged objects of the cache, and name the outputs here that are not what dvc.lock says."""
    if not Path("dvc.lock").exists():
        raise ThawError("there is no dvc.lock here: run it where dvc.yaml lies, after `dvc repro`")
    root = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    bad = damaged(Path(root.stdout.strip()))
    wrong = [
        path
        for (_, path), known in locked(yaml.safe_load(Path("dvc.lock").read_text())).items()
        if os.path.lexists(path) and (not Path(path).exists() or md5(Path(path)) != known)
    ]
    for path in bad:  # afterwards: an output may be a link to one of them
        path.unlink()
    for path in wrong:
        print(f"{path} is not what dvc.lock says")
    if wrong:
        print(f"if you changed none of them, mend them by\nrm -r {shlex.join(wrong)} && dvc repro")
    print(f"verify: {len(bad)} damaged objects of the cache deleted, {len(wrong)} outputs differ from dvc.lock")
    return not (bad or wrong)


def damaged(cache: Path) -> list[Path]:
    """Return the objects of a DVC cache whose bytes are not those of their name."""
    return [
        path
        for path in sorted((cache / "files/md5").glob("??/*"))
        if path.is_file() and md5(path) != (path.parent.name + path.name).removesuffix(".dir")
    ]


if __name__ == "__main__":
    run(main)
