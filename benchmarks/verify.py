"""Run the pipeline of the last commit again, and compare each output with that of the commit.

    python benchmarks/verify.py            runs in a temporary clone with a cache of its own
    python benchmarks/verify.py --cache    runs nothing; finds damaged files in DVC's cache and among the outputs here

The exit status is 0 if every output is identical, or if every metric is in the 95 % interval of the committed metric,
as can be expected on ARM or with other versions of libraries. Otherwise it is 1. Where outputs differ, it says from
which stage on, and the likely cause: `reports/provenance.json` of the commit names the kernels and the versions.
"""

import argparse
import json
import os
import platform
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

from thaw.core.cache import LIMIT  # noqa: E402
from thaw.core.errors import ThawError, run  # noqa: E402
from thaw.core.hashes import md5  # noqa: E402

METRICS = "reports/metrics.json"
PROVENANCE = "reports/provenance.json"
COMPUTES = {  # stage → the libraries whose kernels its outputs rest on
    "download": "Pillow and OpenCV",
    "split": "Pillow, OpenCV and NumPy",
    "augment": "Pillow and OpenCV",
    "backbone": "Keras and OpenVINO",
    "extract_features": "Pillow, OpenCV and OpenVINO",
    "train_head": "NumPy and SciPy with OpenBLAS, and scikit-learn",
    "extract_activations": "Pillow, OpenCV and OpenVINO",
    "fine_tune": "TensorFlow with oneDNN and Eigen, and OpenVINO",
    "evaluate": "NumPy and SciPy with OpenBLAS, scikit-learn, OpenVINO and OpenCV",
}
MAIN = ("accuracy_weighted", "balanced_accuracy_weighted", "roc_auc_weighted", "log_loss_weighted")


class Output(NamedTuple):
    stage: str
    path: str
    identical: bool


class Difference(NamedTuple):
    """A metric that has changed, with the committed interval."""

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
    parser.add_argument("--cache", action="store_true", help="only find damaged files in the cache and the outputs")
    if parser.parse_args().cache:
        sys.exit(not check_cache())
    committed = subprocess.run(["git", "show", "HEAD:./dvc.lock"], capture_output=True, text=True)
    if committed.returncode:
        raise ThawError("HEAD has no dvc.lock to compare with: run `dvc repro`, and commit what it wrote")
    if git("status", "--porcelain", "--untracked-files=no"):
        print("verify: uncommitted changes are ignored: HEAD is verified", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary, "clone")
        git("clone", "--quiet", ".", str(clone))
        before, recorded = read_json(clone / METRICS), read_json(clone / PROVENANCE)
        if not before:
            raise ThawError(f"HEAD has no {METRICS} to compare with: run `dvc repro`, and commit what it wrote")
        run_all_stages(clone)
        compared = compare(yaml.safe_load(committed.stdout), yaml.safe_load((clone / "dvc.lock").read_text()))
        after, here = read_json(clone / METRICS), read_json(clone / PROVENANCE)
        changed = git("-C", str(clone), "status", "--porcelain").splitlines()
    for output in compared:
        print(f"{output.stage:20} {output.path:46} {'identical' if output.identical else 'DIFFERS'}")
    for line in changed:
        print(f"git: {line}")
    different = list(differences(before, after))
    for metric in different:
        if not metric.within or metric.name.rpartition(".")[2] in MAIN:
            now = "none" if metric.after is None else f"{metric.after:.4f}"
            interval = f"{metric.low:.4f} to {metric.high:.4f}{'' if metric.within else ': OUTSIDE'}"
            print(f"{metric.name}: {metric.before:.4f} in the commit ({interval}), now {now}")
    for line in causes(compared, recorded, here):
        print(f"verify: {line}")
    print(f"verify: this is {this_machine()}")
    sentence, passed = verdict(compared, changed, different)
    print(f"verify: {sentence}")
    sys.exit(not passed)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def read_json(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def run_all_stages(clone: Path) -> None:
    """Run every stage in a clone, with a cache of its own."""
    dvc = (sys.executable, "-m", "dvc")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, LIMIT: "0"}  # what was kept is computed again
    cache = str(clone / ".dvc/cache")
    subprocess.run([*dvc, "cache", "dir", "--quiet", "--local", cache], cwd=clone, env=environment, check=True)
    result = subprocess.run([*dvc, "repro", "--force"], cwd=clone, env=environment)
    if result.returncode:
        raise ThawError("the run in the clone failed, for the reason above, so HEAD cannot be reproduced here")


def outputs(pipeline: dict) -> Iterator[tuple[str, str]]:
    """Yield the stage and the path of each output in the contents of a dvc.yaml."""
    for stage, fields in pipeline["stages"].items():
        for kind in ("outs", "metrics", "plots"):
            for entry in fields.get(kind, []):
                yield stage, entry if isinstance(entry, str) else next(iter(entry))


def locked_hashes(lock: dict) -> dict[tuple[str, str], str]:
    """Return the MD5 of each output in the contents of a dvc.lock, by stage and path."""
    return {
        (stage, out["path"]): out["md5"] for stage, fields in lock["stages"].items() for out in fields.get("outs", [])
    }


def compare(before: dict, after: dict) -> list[Output]:
    """Compare the outputs of two dvc.lock files, in the order of the first. An output in only one of them differs."""
    old, new = locked_hashes(before), locked_hashes(after)
    return [Output(*key, old.get(key) == new.get(key)) for key in [*old, *(key for key in new if key not in old)]]


def differences(before: dict, after: dict, prefix: str = "") -> Iterator[Difference]:
    """Yield each changed metric that has an interval. A metric that is missing now is None and not within."""
    for key, value in before.items():
        new = after.get(key)
        if isinstance(value, dict):
            yield from differences(value, new if isinstance(new, dict) else {}, f"{prefix}{key}.")
        elif None not in (low := before.get(f"{key}_low"), high := before.get(f"{key}_high"), value) and new != value:
            yield Difference(prefix + key, value, new, low, high)


def causes(compared: list[Output], recorded: dict, here: dict) -> list[str]:
    """Return from which stage on outputs differ, and why, a line each; none if all are identical.

    Args:
        compared: All outputs.
        recorded: The provenance of the commit, see `thaw.report.provenance`; empty if it has none.
        here: The provenance of the run that was compared with it.
    """
    order = {stage: place for place, stage in enumerate(("inputs", "fingerprints", *COMPUTES))}
    differing = (output for output in compared if not output.identical)
    first = min(differing, key=lambda output: order.get(output.stage, len(order)), default=None)
    if first is None:
        return []
    lines = [f"the first output that differs is {first.path}, of the stage {first.stage}"]
    if first.stage in ("inputs", "fingerprints"):
        return [*lines, "the cause: the photographs, the weights or the model that it reads are others now"]
    if not recorded:
        return [*lines, f"the commit does not say what it was computed with ({PROVENANCE}), so no cause can be named"]
    pairs = [("kernels", recorded["kernels"], here["kernels"])]
    pairs += [(name, old, here["libraries"].get(name)) for name, old in recorded["libraries"].items()]
    changed = [f"{name}: {old} in the commit, {new or 'none'} here" for name, old, new in pairs if old != new]
    if changed:
        return [*lines, *(f"likely cause: {line}" for line in changed)]
    libraries = COMPUTES.get(first.stage, "the libraries")
    return [
        *lines,
        "kernels and versions are those of the commit; what is left: a file that the stage reads elsewhere, the "
        f"functions of the C library, or a choice by the processor in {libraries}",
    ]


def this_machine() -> str:
    """Return the processor, the number of its cores and the C library, which no output names."""
    try:
        listing = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        listing = []
    models = (line.partition(":")[2].strip() for line in listing if line.startswith("model name"))
    processor = next(models, "") or platform.processor() or platform.machine()
    library = " ".join(platform.libc_ver()).strip() or platform.platform()
    return f"{processor}, {os.cpu_count()} cores, {library}, Python {platform.python_version()}"


def verdict(compared: list[Output], changed: list[str], different: list[Difference]) -> tuple[str, bool]:
    """Return a sentence about the outcome, and whether the verification passed."""
    same = sum(output.identical for output in compared)
    if same == len(compared):
        but = f", but Git sees changes in {', '.join(line[3:] for line in changed)}" if changed else ""
        return f"all {same} outputs are identical to those of the commit{but}", True
    counts = f"{same} of {len(compared)} outputs are identical to those of the commit"
    outside = [metric.name for metric in different if not metric.within]
    if outside:
        return f"{counts}; {len(outside)} metrics are outside their 95 % intervals, the first is {outside[0]}", False
    return f"{counts}; {len(different)} metrics differ, all of them within their 95 % intervals", True


# --- Damage: DVC trusts a cached file that is read-only, and does not read it again ---


def check_cache() -> bool:
    """Delete the damaged files of the cache, and print the outputs here that differ from dvc.lock."""
    if not Path("dvc.lock").exists():
        raise ThawError("there is no dvc.lock here: run this in the folder of dvc.yaml, after `dvc repro`")
    root = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    damaged = damaged_files(Path(root.stdout.strip()))
    wrong = [
        path
        for (_, path), expected in locked_hashes(yaml.safe_load(Path("dvc.lock").read_text())).items()
        if os.path.lexists(path) and (not Path(path).exists() or md5(Path(path)) != expected)
    ]
    for path in damaged:  # only now, since an output may be a link to one of them
        path.unlink()
    for path in wrong:
        print(f"{path} differs from dvc.lock")
    if wrong:
        print(f"if you did not change them yourself, restore them:\nrm -r {shlex.join(wrong)} && dvc repro")
    print(f"verify: {len(damaged)} damaged files of the cache deleted, {len(wrong)} outputs differ from dvc.lock")
    return not (damaged or wrong)


def damaged_files(cache: Path) -> list[Path]:
    """Return the files of a DVC cache whose MD5 is not that of their name."""
    return [
        path
        for path in sorted((cache / "files/md5").glob("??/*"))
        if path.is_file() and md5(path) != (path.parent.name + path.name).removesuffix(".dir")
    ]


if __name__ == "__main__":
    run(main)
