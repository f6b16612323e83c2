"""Disturb the pipeline, let `dvc repro` mend it, and compare every byte with those of an undisturbed run.

    python benchmarks/torture.py [--kills 200] [--seed 0] [--only kills|faults|surroundings]

In a scratch repository with drawn photographs (`tests/conftest.py`):

- kills: one stage is forgotten, and its run ended by SIGKILL at a random moment: DVC and the stage together, the stage
  alone, or DVC alone, so that the stage outlives it; up to five kills on what the one before left, then the run that
  mends. Kills that come when all has ended are not counted. Cheap stages are drawn more often;
- faults: a full disk, a folder that cannot be written to, damaged objects in DVC's cache;
- surroundings: all stages by force on one core or thread, in other languages, time zones, years and folders, with
  other umasks and hash seeds.

What this machine cannot do is said and counted as skipped. The exit status is 1 if anything was lost or differs.
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

import psutil
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from conftest import Checkout, make_source, surroundings  # noqa: E402
from verify import outputs  # noqa: E402

from thaw.provenance import md5  # noqa: E402

REPRO = (sys.executable, "-m", "dvc", "repro")
START = 3  # seconds that DVC itself takes before and behind a stage, about
TRIES = 3  # that `dvc repro` gets to mend a disturbance
BURST = 5  # kills at most before the run that mends
Row = tuple[str, list[str] | None, str]  # of a disturbance its name, what is wrong (None: it was skipped), a remark
# DVC writes two files of its own in place, so that a kill can leave them half-written: what it says, and what to do.
REMEDIES = {"dvc.lock": "git checkout dvc.lock", "rwlock": "rm .dvc/tmp/rwlock"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of stages and moments; the machine's own timing stays")
    parser.add_argument("--only", choices=["kills", "faults", "surroundings"], help="a part of it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        os.environ |= surroundings(folder / "home")
        (folder / "keras").mkdir()
        (folder / "keras" / "keras.json").write_text('{"floatx": "float64", "epsilon": 1e-4}')
        checkout = make_source(folder / "source")
        seconds = undisturbed(checkout)
        truth = bytes_of(checkout)
        print(f"undisturbed: {len(seconds)} stages in {sum(seconds.values()):.0f} s, {len(truth)} outputs", flush=True)
        good = True
        if arguments.only in (None, "faults"):
            good &= show(fault(checkout, folder, truth, *one) for one in FAULTS)
        if arguments.only in (None, "surroundings"):
            good &= show(elsewhere(checkout, folder, truth, *one) for one in SURROUNDINGS)
        if arguments.only in (None, "kills"):
            good &= kills(checkout, folder, truth, seconds, arguments.kills, random.Random(arguments.seed))
    sys.exit(not good)


def undisturbed(checkout: Checkout) -> dict[str, float]:
    """Run everything once, keep it as a commit, and return the seconds of each stage, DVC's part included."""
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


def bytes_of(checkout: Checkout) -> dict[str, str | None]:
    """Return the hash of every output of dvc.yaml and of dvc.lock, computed from the bytes; None of what is absent."""
    declared = yaml.safe_load((checkout.path / "dvc.yaml").read_text())
    paths = sorted({path for _, path in outputs(declared)} | {"dvc.lock"})
    return {path: md5(checkout.path / path) if (checkout.path / path).exists() else None for path in paths}


def mend(checkout: Checkout, truth: dict[str, str | None]) -> tuple[list[str], list[str]]:
    """Run `dvc repro` until it ends well; return what else that took, and what is wrong then."""
    remedies = []
    for _ in range(TRIES):
        result = checkout.run(*REPRO)
        if result.returncode == 0:
            found = bytes_of(checkout)
            return remedies, [path for path in truth if found[path] != truth[path]] + checkout.partials()
        said = last_line(result)
        remedies.append(next((remedy for sign, remedy in REMEDIES.items() if sign in said), f"again after: {said}"))
        if remedies[-1] in REMEDIES.values():
            checkout.run("sh", "-c", remedies[-1], check=True)
    return remedies, ["`dvc repro` failed"]


def last_line(result: subprocess.CompletedProcess) -> str:
    """What a failed run says of why, on one line."""
    said = [line for line in result.stderr.splitlines() if line.strip()]
    return next((line for line in said if line.startswith("thaw: ")), (said or [""])[0])


def show(rows: Iterator[Row]) -> bool:
    """Print a line for each disturbance as it comes; return whether all ended with the bytes of the undisturbed run."""
    outcomes = Counter()
    for name, wrong, remark in rows:
        outcome = "SKIPPED" if wrong is None else "DIFFERS" if wrong else "identical"
        said = ", ".join([*(wrong or []), remark])
        print(f"{name:44} {outcome:10} {said}".rstrip(", "), flush=True)
        outcomes[outcome] += 1
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()), flush=True)
    return not outcomes["DIFFERS"]


# --- Kills ---


def kills(
    checkout: Checkout, folder: Path, truth: dict, seconds: dict[str, float], count: int, draw: random.Random
) -> bool:
    """Kill `count` runs, print how they went by stage, and return whether nothing was lost."""
    work = Checkout(folder / "killed")
    shutil.copytree(checkout.path, work.path, symlinks=True)
    done, survived, remedied, spent = Counter(), Counter(), Counter(), Counter()
    stages, weights = list(seconds), [1 / (START + s) for s in seconds.values()]
    started = time.perf_counter()
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends it early, with the table of what was done
        while done.total() < count:
            stage, burst = draw.choices(stages, weights)[0], draw.randint(1, BURST)
            begin = time.perf_counter()
            work.forget(stage)
            before = done.total()
            for _ in range(min(burst, count - before)):
                how, moment = draw.choice(["both", "stage", "dvc"]), draw.uniform(0, seconds[stage])
                if not killed(work, stage, how, moment):
                    break  # it came too late: nothing of this stage is left to kill
                done[stage, how] += 1
            remedies, wrong = mend(work, truth)
            survived[stage] += 0 if wrong else done.total() - before
            remedied[stage] += len(remedies)
            spent[stage] += time.perf_counter() - begin
            for line in [*remedies, *wrong]:
                print(f"{stage}, the last killed was {how} after {moment:.2f} s: {line}")
            if wrong:  # the next disturbance begins with what is right
                shutil.rmtree(work.path)
                shutil.copytree(checkout.path, work.path, symlinks=True)
            print(
                f"{done.total()} kills, {survived.total()} survived, {time.perf_counter() - started:.0f} s", flush=True
            )
    print(f"{'stage':20}{'kills':>7}{'both':>7}{'stage':>7}{'dvc':>7}{'survived':>10}{'remedies':>10}{'seconds':>9}")
    for stage in stages:
        each = [done[stage, how] for how in ("both", "stage", "dvc")]
        print(f"{stage:20}{sum(each):7}{each[0]:7}{each[1]:7}{each[2]:7}"
              f"{survived[stage]:10}{remedied[stage]:10}{spent[stage]:9.0f}")  # fmt: skip
    print(f"{done.total()} kills, {survived.total()} survived with identical bytes, "
          f"{remedied.total()} times after more than `dvc repro`; {time.perf_counter() - started:.0f} s")  # fmt: skip
    return survived.total() == done.total()


def killed(checkout: Checkout, stage: str, how: str, moment: float) -> bool:
    """Start `dvc repro` and kill it `moment` seconds into the stage; False if there was nothing left to kill."""
    with tempfile.TemporaryFile() as output:
        run = subprocess.Popen(
            REPRO, cwd=checkout.path, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            begun = f"Running stage '{stage}'".encode()
            while run.poll() is None and begun not in os.pread(output.fileno(), 1 << 20, 0):
                time.sleep(0.01)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(moment)
            alive = run.poll() is None
            if alive and how == "both":
                os.killpg(run.pid, signal.SIGKILL)
            elif alive and how == "dvc":
                run.kill()
            elif alive:
                processes = psutil.Process(run.pid).children(recursive=True)
                for process in processes:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                alive = bool(processes)
            run.wait()
        finally:
            if run.poll() is None:  # Ctrl-C reaches this script alone
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
    return alive


# --- Faults ---


class CannotMountError(Exception):
    """It takes the rights to."""


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


def full(checkout: Checkout, folder: str) -> str:
    """Run while `folder` is on a disk with no room left but for what lies there; return how the run ended."""
    path, aside = checkout.path / folder, checkout.path / "aside.partial"
    shutil.copytree(path, aside)
    with mounted(path, "-t", "tmpfs", "tmpfs"):
        shutil.copytree(aside, path, dirs_exist_ok=True)
        size = shutil.disk_usage(path).used
        mount(path, "-o", f"remount,size={size}")
        ending = ended(checkout)
        shutil.rmtree(aside)
        shutil.copytree(path, aside)
    shutil.rmtree(path)  # what the full disk held goes on to one with room
    aside.rename(path)
    return ending


def unwritable(checkout: Checkout, folder: str) -> str:
    path = checkout.path / folder
    with mounted(path, "--bind", str(path)):
        mount(path, "-o", "remount,bind,ro")
        return ended(checkout)


def ended(checkout: Checkout) -> str:
    result = checkout.run(*REPRO)
    return last_line(result) if result.returncode else "the run ended well all the same"


def objects(checkout: Checkout, output: str) -> list[Path]:
    """The files of DVC's cache that hold an output's bytes, each once."""
    path = checkout.path / output
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return [checkout.path / ".dvc/cache/files/md5" / name[:2] / name[2:] for name in sorted(set(map(md5, files)))]


def damage(path: Path) -> None:
    """Change a byte in the middle, as a bad disk does: mode and time stay."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.chmod(status.st_mode)


def checked_out(checkout: Checkout, output: str) -> str:
    """Damage the objects of an output that is gone from the working copy, run, then look for damage and run again."""
    for path in objects(checkout, output):
        damage(path)
    path = checkout.path / output
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return cured(checkout, output)


def brought_back(checkout: Checkout, output: str) -> str:
    """The same of an output that is brought back when a parameter is what it was."""
    kept = (checkout.path / "params.yaml").read_text()
    paths = objects(checkout, output)
    checkout.set(head__strengths=[0.003])
    checkout.repro()
    for path in paths:
        damage(path)
    (checkout.path / "params.yaml").write_text(kept)
    return cured(checkout, output)


def cured(checkout: Checkout, output: str) -> str:
    ending = ended(checkout)
    remedy = checkout.run(sys.executable, str(ROOT / "benchmarks/verify.py"), "--cache")
    said = remedy.stdout.splitlines()
    for line in said:
        if line.startswith("rm "):
            checkout.run("sh", "-c", line)
    return f"{ending}; `make verify-cache`: {said[-1] if said else last_line(remedy)}"


FAULTS = [
    ("a full disk for data", "download", "data/raw", full, "data"),
    ("a full disk for models", "train_head", "models/head", full, "models"),
    ("a full disk for reports", "evaluate", "reports/report.html", full, "reports"),
    ("a full disk for DVC's cache", "split", "data/split.csv", full, ".dvc/cache"),
    ("data cannot be written to", "extract_features", None, unwritable, "data"),
    ("models cannot be written to", "train_head", None, unwritable, "models"),
    ("reports cannot be written to", "augment", None, unwritable, "reports"),
    ("DVC's cache cannot be written to", "train_head", None, unwritable, ".dvc/cache"),
    ("a damaged object, checked out", None, None, checked_out, "models/head"),
    ("a damaged object, from the run cache", None, None, brought_back, "models/head"),
]


def fault(
    checkout: Checkout, folder: Path, truth: dict, name: str, stage: str | None, absent: str | None,
    disturb: Callable[[Checkout, str], str], where: str,
) -> Row:  # fmt: skip
    """Forget a stage and an output in a copy, disturb its run, and mend it."""
    work = Checkout(folder / "faulty")
    shutil.copytree(checkout.path, work.path, symlinks=True)
    try:
        if stage:
            work.forget(stage)
        if absent:
            path = work.path / absent
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        remark = disturb(work, where)
        remedies, wrong = mend(work, truth)
        return name, wrong, "; ".join([remark, *remedies])
    except CannotMountError as error:
        return name, None, str(error)
    finally:
        shutil.rmtree(work.path)


# --- Surroundings: name, a command before DVC's, variables, umask, folder ---

SURROUNDINGS = [
    ("one core", ["taskset", "-c", "0"], {}, -1, "work"),
    ("one thread", [], {"OMP_NUM_THREADS": "1"}, -1, "work"),
    (
        "a hash seed, a blank in the path",
        [],
        {"PYTHONHASHSEED": "12345", "LC_ALL": "C"},
        -1,
        "a földer",
    ),
    ("Turkish, the time zone Kiritimati", [], {"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati"}, -1, "work"),
    ("a keras.json of one's own", [], {"KERAS_HOME": "{folder}/keras"}, -1, "work"),
    ("umask 077", [], {}, 0o077, "work"),
    ("umask 000", [], {}, 0, "work"),
    ("the year 2001", ["faketime", "-f", "@2001-02-03 04:05:06"], {"DONT_FAKE_MONOTONIC": "1"}, -1, "work"),
    ("a clock of 60 times the speed", ["faketime", "-f", "+9y x60"], {"DONT_FAKE_MONOTONIC": "1"}, -1, "work"),
]


def elsewhere(
    checkout: Checkout, folder: Path, truth: dict, name: str, before: list[str], variables: dict, umask: int, at: str
) -> Row:
    """Run every stage by force in a copy, in other surroundings."""
    if before and not shutil.which(before[0]):
        return name, None, f"no {before[0]} here"
    if "LC_ALL" in variables and not known_locale(variables["LC_ALL"]):
        return name, None, f"no locale {variables['LC_ALL']} here"
    variables = {name: value.format(folder=folder) for name, value in variables.items()}
    work = Checkout(folder / at)
    shutil.copytree(checkout.path, work.path, symlinks=True)
    try:
        result = work.run(*before, *REPRO, "--force", env=os.environ | variables, umask=umask)
        if result.returncode:
            return name, [f"`dvc repro` failed: {last_line(result)}"], ""
        found = bytes_of(work)
        return name, [path for path in truth if found[path] != truth[path]] + work.partials(), ""
    finally:
        shutil.rmtree(work.path)


def known_locale(name: str) -> bool:
    """Say whether the machine has a locale; processes fall back to C without a word."""
    ask = [sys.executable, "-c", "import locale; locale.setlocale(locale.LC_ALL, '')"]
    return subprocess.run(ask, env=os.environ | {"LC_ALL": name}, capture_output=True).returncode == 0


if __name__ == "__main__":
    main()
