"""Disturb the pipeline, let `dvc repro` finish it, and compare every byte with an undisturbed run.

    python benchmarks/torture.py [--kills 200] [--seed 0] [--only kills|faults|surroundings]

Runs in a temporary repository with drawn photographs (`tests/conftest.py`):

- kills: DVC forgets one stage and runs it again. SIGKILL ends the run at a random moment: DVC and the stage, only the
  stage, or only DVC. After up to five kills in a row, a last run must finish. A kill that comes too late does not
  count. Short stages are drawn more often.
- faults: a full disk, a folder that is read-only, damaged objects in DVC's cache.
- surroundings: all stages run again on one core or with one thread; with another language, time zone, year, folder,
  umask or hash seed.

Tests that this machine cannot do are printed and counted as skipped. The exit status is 1 if an output is lost or
differs.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import conftest  # noqa: E402
from conftest import Checkout, make_source  # noqa: E402
from verify import outputs  # noqa: E402

from thaw.core.hashes import md5  # noqa: E402

REPRO = (sys.executable, "-m", "dvc", "repro")
DVC_SECONDS = 3  # approximate time of DVC itself before and after a stage
MAX_RUNS = 3  # of `dvc repro` after a disturbance
MAX_KILLS_IN_A_ROW = 5
Row = tuple[str, list[str] | None, str]  # name of a disturbance, what is wrong after it (None: skipped), a remark
# DVC writes two of its own files in place, so a kill can leave them incomplete. Part of the message: the remedy.
REMEDIES = {"dvc.lock": "git checkout dvc.lock", "rwlock": "rm .dvc/tmp/rwlock"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the draws; the timing of the machine still varies")
    parser.add_argument("--only", choices=["kills", "faults", "surroundings"], help="run only this part")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        os.environ |= conftest.surroundings(folder / "home")
        (folder / "keras").mkdir()
        (folder / "keras" / "keras.json").write_text('{"floatx": "float64", "epsilon": 1e-4}')
        checkout = make_source(folder / "source")
        seconds = run_undisturbed(checkout)
        run = Undisturbed(checkout, folder, output_hashes(checkout))
        total = sum(seconds.values())
        print(f"undisturbed: {len(seconds)} stages in {total:.0f} s, {len(run.expected)} outputs", flush=True)
        passed = True
        if arguments.only in (None, "faults"):
            passed &= show(disturb(run, fault) for fault in FAULTS)
        if arguments.only in (None, "surroundings"):
            passed &= show(run_elsewhere(run, surroundings) for surroundings in SURROUNDINGS)
        if arguments.only in (None, "kills"):
            passed &= kills(run, seconds, arguments.kills, random.Random(arguments.seed))
    sys.exit(not passed)


class Undisturbed(NamedTuple):
    """A finished run, with which disturbed ones are compared."""

    checkout: Checkout
    folder: Path  # for copies
    expected: dict[str, str | None]  # the MD5 of each output

    def copy(self, name: str) -> Checkout:
        """Copy the repository of the run."""
        copy = Checkout(self.folder / name)
        shutil.copytree(self.checkout.path, copy.path, symlinks=True)
        return copy


def run_undisturbed(checkout: Checkout) -> dict[str, float]:
    """Run all stages once and commit the results. Returns the seconds of each stage, with the time of DVC."""
    starts = {}
    with subprocess.Popen(REPRO, cwd=checkout.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        output = []
        for line in run.stdout:
            output.append(line)
            if line.startswith("Running stage '"):
                starts[line.split("'")[1]] = time.perf_counter()
    end = time.perf_counter()
    if run.returncode:
        sys.exit("".join(output) + "torture: the undisturbed run failed")
    for command in (["git", "add", "--all"], ["git", "commit", "--quiet", "--message", "results"]):
        checkout.run(*command, check=True)
    ends = [*list(starts.values())[1:], end]
    return {stage: ends[i] - start for i, (stage, start) in enumerate(starts.items())}


def output_hashes(checkout: Checkout) -> dict[str, str | None]:
    """Return the MD5 of each output of dvc.yaml and of dvc.lock by its path, computed anew; None if it is missing."""
    declared = yaml.safe_load((checkout.path / "dvc.yaml").read_text())
    paths = sorted({path for _, path in outputs(declared)} | {"dvc.lock"})
    return {path: md5(checkout.path / path) if (checkout.path / path).exists() else None for path in paths}


def differing(checkout: Checkout, expected: dict[str, str | None]) -> list[str]:
    """Return the outputs that are not as expected, and unfinished files that are left."""
    hashes = output_hashes(checkout)
    return [path for path in expected if hashes[path] != expected[path]] + checkout.partials()


def recover(checkout: Checkout, expected: dict[str, str | None]) -> tuple[list[str], list[str]]:
    """Run `dvc repro` until it succeeds. Returns the other commands that this took, and what is wrong afterwards."""
    remedies = []
    for _ in range(MAX_RUNS):
        result = checkout.run(*REPRO)
        if result.returncode == 0:
            return remedies, differing(checkout, expected)
        error = error_line(result)
        remedies.append(next((remedy for part, remedy in REMEDIES.items() if part in error), f"again after: {error}"))
        if remedies[-1] in REMEDIES.values():
            checkout.run("sh", "-c", remedies[-1], check=True)
    return remedies, ["`dvc repro` failed"]


def error_line(result: subprocess.CompletedProcess) -> str:
    """Return the line of stderr that says why a run failed."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("thaw: ")), (lines or [""])[0])


def show(rows: Iterator[Row]) -> bool:
    """Print a line for each disturbance as it comes. Returns whether no output differs."""
    outcomes = Counter()
    for name, wrong, remark in rows:
        outcome = "SKIPPED" if wrong is None else "DIFFERS" if wrong else "identical"
        details = ", ".join([*(wrong or []), remark])
        print(f"{name:44} {outcome:10} {details}".rstrip(", "), flush=True)
        outcomes[outcome] += 1
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()), flush=True)
    return not outcomes["DIFFERS"]


# --- Kills ---


def kills(run: Undisturbed, seconds: dict[str, float], count: int, draw: random.Random) -> bool:
    """Kill runs in a copy, and print a table by stage.

    Args:
        run: The undisturbed run.
        seconds: Duration of each stage.
        count: Number of kills.
        draw: Draws stages and moments.

    Returns:
        Whether every output was as expected after all kills.
    """
    copy = run.copy("killed")
    killed, survived, remedied, spent = Counter(), Counter(), Counter(), Counter()
    stages, weights = list(seconds), [1 / (DVC_SECONDS + s) for s in seconds.values()]
    start = time.perf_counter()
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends it early; the table is printed all the same
        while killed.total() < count:
            stage, in_a_row = draw.choices(stages, weights)[0], draw.randint(1, MAX_KILLS_IN_A_ROW)
            stage_start = time.perf_counter()
            copy.forget(stage)
            before = killed.total()
            for _ in range(min(in_a_row, count - before)):
                target, moment = draw.choice(["both", "stage", "dvc"]), draw.uniform(0, seconds[stage])
                if not kill(copy, stage, target, moment):
                    break  # too late: the stage has ended
                killed[stage, target] += 1
            remedies, wrong = recover(copy, run.expected)
            survived[stage] += 0 if wrong else killed.total() - before
            remedied[stage] += len(remedies)
            spent[stage] += time.perf_counter() - stage_start
            for line in [*remedies, *wrong]:
                print(f"{stage}, last kill ({target}) after {moment:.2f} s: {line}")
            if wrong:  # start again from the undisturbed run
                shutil.rmtree(copy.path)
                copy = run.copy("killed")
            print(
                f"{killed.total()} kills, {survived.total()} survived, {time.perf_counter() - start:.0f} s", flush=True
            )
    print(f"{'stage':20}{'kills':>7}{'both':>7}{'stage':>7}{'dvc':>7}{'survived':>10}{'remedies':>10}{'seconds':>9}")
    for stage in stages:
        counts = [killed[stage, target] for target in ("both", "stage", "dvc")]
        print(f"{stage:20}{sum(counts):7}{counts[0]:7}{counts[1]:7}{counts[2]:7}"
              f"{survived[stage]:10}{remedied[stage]:10}{spent[stage]:9.0f}")  # fmt: skip
    print(f"{killed.total()} kills, {survived.total()} survived with identical bytes; more than `dvc repro` was needed "
          f"{remedied.total()} times; {time.perf_counter() - start:.0f} s")  # fmt: skip
    return survived.total() == killed.total()


def kill(checkout: Checkout, stage: str, target: str, moment: float) -> bool:
    """Start `dvc repro`, and kill it during a stage.

    Args:
        checkout: Repository to run in.
        stage: The stage that DVC runs.
        target: What to kill: the `stage`, `dvc`, or `both`.
        moment: Seconds from the start of the stage to the kill.

    Returns:
        Whether there was still a process to kill.
    """
    with tempfile.TemporaryFile() as output:
        run = subprocess.Popen(
            REPRO, cwd=checkout.path, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            sign = f"Running stage '{stage}'".encode()
            while run.poll() is None and sign not in os.pread(output.fileno(), 1 << 20, 0):
                time.sleep(0.01)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(moment)
            alive = run.poll() is None
            if alive and target == "both":
                os.killpg(run.pid, signal.SIGKILL)
            elif alive and target == "dvc":
                run.kill()
            elif alive:
                processes = psutil.Process(run.pid).children(recursive=True)
                for process in processes:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                alive = bool(processes)
            run.wait()
        finally:
            if run.poll() is None:  # Ctrl-C ends only this script
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
    return alive


# --- Faults ---


class CannotMountError(Exception):
    """The user lacks the rights to mount."""


def mount(path: Path, *options: str) -> None:
    result = subprocess.run(["mount", *options, str(path)], capture_output=True, text=True)
    if result.returncode:
        raise CannotMountError(f"mount {' '.join(options[:2])}: {result.stderr.strip()}")


@contextlib.contextmanager
def mounted(path: Path, *options: str) -> Iterator[None]:
    mount(path, *options)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def full_disk(checkout: Checkout, folder: str) -> str:
    """Run while `folder` is on a full disk. Returns how the run ended."""
    path, backup = checkout.path / folder, checkout.path / "aside.partial"
    shutil.copytree(path, backup)
    with mounted(path, "-t", "tmpfs", "tmpfs"):
        shutil.copytree(backup, path, dirs_exist_ok=True)
        size = shutil.disk_usage(path).used
        mount(path, "-o", f"remount,size={size}")
        ending = run_outcome(checkout)
        shutil.rmtree(backup)
        shutil.copytree(path, backup)
    shutil.rmtree(path)  # the files of the full disk move to a disk with free space
    backup.rename(path)
    return ending


def read_only(checkout: Checkout, folder: str) -> str:
    """Run while `folder` is read-only. Returns how the run ended."""
    path = checkout.path / folder
    with mounted(path, "--bind", str(path)):
        mount(path, "-o", "remount,bind,ro")
        return run_outcome(checkout)


def run_outcome(checkout: Checkout) -> str:
    result = checkout.run(*REPRO)
    return error_line(result) if result.returncode else "the run succeeded all the same"


def cached_files(checkout: Checkout, output: str) -> list[Path]:
    """Return the files of DVC's cache with the bytes of an output, each once."""
    path = checkout.path / output
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return [checkout.path / ".dvc/cache/files/md5" / name[:2] / name[2:] for name in sorted(set(map(md5, files)))]


def damage(path: Path) -> None:
    """Change one byte in the middle, as a bad disk does. Mode and times stay the same."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.chmod(status.st_mode)


def damage_checkout(checkout: Checkout, output: str) -> str:
    """Damage the cached files of an output and delete the output, so that DVC checks out the damaged files."""
    for path in cached_files(checkout, output):
        damage(path)
    path = checkout.path / output
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return run_and_repair(checkout)


def damage_run_cache(checkout: Checkout, output: str) -> str:
    """Damage the cached files of an output that comes out of the run cache when a parameter changes back."""
    original = (checkout.path / "params.yaml").read_text()
    paths = cached_files(checkout, output)
    checkout.set(head__strengths=[0.003])
    checkout.repro()
    for path in paths:
        damage(path)
    (checkout.path / "params.yaml").write_text(original)
    return run_and_repair(checkout)


def run_and_repair(checkout: Checkout) -> str:
    """Run, then find the damage with `verify.py --cache` and do what it says. Returns both outcomes."""
    ending = run_outcome(checkout)
    remedy = checkout.run(sys.executable, str(ROOT / "benchmarks/verify.py"), "--cache")
    lines = remedy.stdout.splitlines()
    for line in lines:
        if line.startswith("rm "):
            checkout.run("sh", "-c", line)
    return f"{ending}; `make verify-cache`: {lines[-1] if lines else error_line(remedy)}"


class Fault(NamedTuple):
    name: str
    run: Callable[[Checkout, str], str]  # runs with the fault and returns how the run ended
    path: str  # the folder or output with the fault, second argument of `run`
    stage: str | None = None  # stage that DVC has to run again
    deleted: str | None = None  # output that is deleted before


FAULTS = [
    Fault("a full disk for data", full_disk, "data", "download", "data/raw/images"),
    Fault("a full disk for models", full_disk, "models", "train_head", "models/head/head.zip"),
    Fault("a full disk for reports", full_disk, "reports", "evaluate", "reports/report.html"),
    Fault("a full disk for DVC's cache", full_disk, ".dvc/cache", "split", "data/split.csv"),
    Fault("data is read-only", read_only, "data", "extract_features"),
    Fault("models is read-only", read_only, "models", "train_head"),
    Fault("reports is read-only", read_only, "reports", "augment"),
    Fault("DVC's cache is read-only", read_only, ".dvc/cache", "train_head"),
    Fault("a damaged object, checked out", damage_checkout, "models/head/head.zip"),
    Fault("a damaged object, from the run cache", damage_run_cache, "models/head/head.zip"),
]


def disturb(run: Undisturbed, fault: Fault) -> Row:
    """Run with a fault in a copy, and let it recover."""
    copy = run.copy("faulty")
    try:
        if fault.stage:
            copy.forget(fault.stage)
        if fault.deleted:
            output = copy.path / fault.deleted
            shutil.rmtree(output) if output.is_dir() else output.unlink()
        remark = fault.run(copy, fault.path)
        remedies, wrong = recover(copy, run.expected)
        return fault.name, wrong, "; ".join([remark, *remedies])
    except CannotMountError as error:
        return fault.name, None, str(error)
    finally:
        shutil.rmtree(copy.path)


# --- Surroundings ---


class Surroundings(NamedTuple):
    name: str
    command: tuple[str, ...] = ()  # that runs DVC
    variables: dict[str, str] | None = None  # {folder} stands for the folder of the undisturbed run
    umask: int = -1  # -1: the present one
    folder: str = "work"


FAKE_CLOCK = {"DONT_FAKE_MONOTONIC": "1"}
SURROUNDINGS = [
    Surroundings("one core", command=("taskset", "-c", "0")),
    Surroundings("one thread", variables={"OMP_NUM_THREADS": "1"}),
    Surroundings(
        "a hash seed, a blank in the path", variables={"PYTHONHASHSEED": "12345", "LC_ALL": "C"}, folder="a földer"
    ),
    Surroundings("Turkish, the time zone Kiritimati", variables={"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati"}),
    Surroundings("the user's own keras.json", variables={"KERAS_HOME": "{folder}/keras"}),
    Surroundings("umask 077", umask=0o077),
    Surroundings("umask 000", umask=0),
    Surroundings("the year 2001", ("faketime", "-f", "@2001-02-03 04:05:06"), FAKE_CLOCK),
    Surroundings("a clock of 60 times the speed", ("faketime", "-f", "+9y x60"), FAKE_CLOCK),
]


def run_elsewhere(run: Undisturbed, surroundings: Surroundings) -> Row:
    """Run all stages again in a copy, in other surroundings."""
    name, command, variables, umask, folder = surroundings
    variables = {key: value.format(folder=run.folder) for key, value in (variables or {}).items()}
    if command and not shutil.which(command[0]):
        return name, None, f"{command[0]} is not installed"
    if "LC_ALL" in variables and not has_locale(variables["LC_ALL"]):
        return name, None, f"the locale {variables['LC_ALL']} is not installed"
    copy = run.copy(folder)
    try:
        result = copy.run(*command, *REPRO, "--force", env=os.environ | variables, umask=umask)
        if result.returncode:
            return name, [f"`dvc repro` failed: {error_line(result)}"], ""
        return name, differing(copy, run.expected), ""
    finally:
        shutil.rmtree(copy.path)


def has_locale(name: str) -> bool:
    """Return whether the machine has a locale. Without it, a process would silently use C."""
    command = [sys.executable, "-c", "import locale; locale.setlocale(locale.LC_ALL, '')"]
    return subprocess.run(command, env=os.environ | {"LC_ALL": name}, capture_output=True).returncode == 0


if __name__ == "__main__":
    main()
