"""Compare Thaw's one command with the usual scripts of other libraries: which is more accurate, and which is faster?

    python benchmarks/league.py --results FOLDER [--seeds 1 2 3] [--torch PYTHON] [--autogluon PYTHON] [--write]

Each contender gets the same photographs, the same split (Thaw's `data/split.csv`) and the same weights, those of
EfficientNet-Lite0.

- `Thaw` is `make repro PHOTOS=FOLDER` on the last commit, in a new clone with an empty cache (for the solar cells
  `make repro`), but with one split, also where it would choose folds: the others know none. The environment is already
  installed.
- `Keras` is `peers/keras_tutorial.py`. It thaws the same blocks as Thaw does by default.
- `timm` is the same in PyTorch, `peers/timm_script.py`.
- `fastai` is `peers/fastai_script.py`, `AutoGluon` is `peers/autogluon_script.py`. Both are used as they teach.

timm and fastai need an environment of 6 GB, AutoGluon needs another of 8 GB:

    uv venv peers && uv pip install --python peers/bin/python --require-hashes -r benchmarks/peers/torch.txt
    uv venv gluon && uv pip install --python gluon/bin/python --require-hashes -r benchmarks/peers/autogluon.txt

`uv pip compile --universal --generate-hashes --python-version 3.11 benchmarks/peers/torch.in` made the first file; the
second is made in the same way.

The table is Markdown. Accuracies are those of the final model without weights, the mean over the seeds, with Wilson's
95 % interval for the number of photographs. The difference to Thaw is paired by photograph. Seconds are the median over
the seeds, from the start of the command to its end; so are CPU seconds, of all its processes. FOLDER keeps each result,
so that a run that was killed goes on. A result is used again only if code, split and options are the same. With
`--kept` nothing else is run: each row says which seeds FOLDER has. With `--write` the table goes to the handbook, too.
"""

import argparse
import contextlib
import csv
import hashlib
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import NamedTuple

import clones
import polars as pl
import results as results_file
from clones import ROOT, dvc, environment, fresh
from race import PEERS, LeftOutError, lay_out

from thaw.backbones import efficientnet_lite
from thaw.backbones.cut_points import resolve
from thaw.core import tables
from thaw.core.errors import ThawError, run
from thaw.core.files import atomic_folder, read_json, write_json
from thaw.evaluation.metrics import Z, wilson
from thaw.handbook import measured

CONTENDERS = ("Thaw", "Keras", "timm", "fastai", "AutoGluon")
CELLS = "solar cells"
SHARED = ROOT.parent / "shared"
FROZEN_BLOCK = "block5"  # the default of fine_tune.freeze_depth, for the peers that can freeze
SIZE = "224"
ALPACA = "/m/0pcr"


class Contest(NamedTuple):
    """A data set that is ready for all contenders."""

    name: str
    source: Path | None  # folder for `make repro PHOTOS=`; None: the default job
    prepared: Path  # clone with Thaw's split and backbone
    folder: Path  # the photographs by split and class
    labels: dict[str, dict[str, str]]  # split → image id → label
    ids: dict[str, str]  # file name → image id


class NotKeptError(Exception):
    """A result is not there, and nothing may be run."""


class Result(NamedTuple):
    predicted: dict[str, str]  # image id → predicted class, for validation and test
    seconds: float
    cpu_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, metavar="FOLDER", help="keeps results, and clones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--kept", action="store_true", help="run no contender: take the results that FOLDER has")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results, too")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--trashnet", type=Path, default=SHARED / "trashnet", help="a folder for each class")
    parser.add_argument("--open-images", type=Path, default=SHARED / "open_images", help="a sample of Open Images")
    parser.add_argument("--without-cells", action="store_true", help="leave the solar cells out")
    parser.add_argument("--torch", type=Path, metavar="PYTHON", help="interpreter with timm and fastai")
    parser.add_argument("--autogluon", type=Path, metavar="PYTHON", help="interpreter with AutoGluon")
    parser.add_argument("--try-out", type=int, metavar="N", help="only N photographs of each class, and one epoch")
    options = parser.parse_args()
    options.results = options.results.resolve()
    options.results.mkdir(parents=True, exist_ok=True)
    rows = []
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the table
        for name, source in sources(options).items():
            try:
                contest = prepare(name, source, options)
            except LeftOutError as reason:
                say(f"{name} is left out: {reason}")
                continue
            results = {contender: compete(contender, contest, options) for contender in options.contenders}
            rows += table_rows(contest, {contender: runs for contender, runs in results.items() if runs})
    if not rows:
        raise ThawError("no contender has a result: the lines above say why")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    columns, lines = as_table(rows)
    print(measured.grid(results_file.described(columns), lines))
    if options.write:
        results_file.write("league", columns, lines)


def say(line: str) -> None:
    print(f"league: {line}", file=sys.stderr, flush=True)


# --- Data ---


def sources(options: argparse.Namespace) -> dict[str, Path | None]:
    """Return the folder of each data set that is there."""
    found: dict[str, Path | None] = {}
    if options.try_out:
        say(f"{CELLS} are left out: --try-out takes photographs from folders")
    elif not options.without_cells:
        found[CELLS] = None
    for name, folder in (("trashnet", options.trashnet), ("open images", options.open_images)):
        if not folder.is_dir():
            say(f"{name} is left out: there is no folder {folder}")
            continue
        source = alpacas(folder, options.results / "alpacas") if name == "open images" else folder.resolve()
        if options.try_out:
            source = first_photographs(source, options.results / f"{source.name}-{options.try_out}", options.try_out)
        found[name] = source
    return found


def alpacas(sample: Path, folder: Path) -> Path:
    """Copy a sample of Open Images into a folder for each class: verified alpacas, and verified others."""
    if not folder.is_dir():
        with atomic_folder(folder) as partial:
            for path in sorted((sample / "annotations").glob("*-annotations-human-imagelabels-boxable.csv")):
                rows = pl.read_csv(path, infer_schema=False).filter(LabelName=ALPACA)
                for image_id, confidence in rows.select("ImageID", "Confidence").rows():
                    target = partial / ("alpaca" if float(confidence) == 1 else "other") / f"{image_id}.jpg"
                    target.parent.mkdir(exist_ok=True)
                    shutil.copyfile(sample / "images" / target.name, target)
    return folder


def first_photographs(source: Path, folder: Path, count: int) -> Path:
    """Copy the first photographs of each class."""
    if not folder.is_dir():
        with atomic_folder(folder) as partial:
            for label in sorted(path for path in source.iterdir() if path.is_dir()):
                (partial / label.name).mkdir()
                for path in sorted(label.iterdir())[:count]:
                    shutil.copyfile(path, partial / label.name / path.name)
    return folder


def prepare(name: str, source: Path | None, options: argparse.Namespace) -> Contest:
    """Let Thaw split a data set and build the backbone, and lay the photographs out for the others.

    Raises LeftOutError if that was not done before and only what is kept may be used.
    """
    folder = options.results / f"prepared-{digest(name, str(source), head())}"
    prepared, photographs = folder / "clone", folder / "photographs"
    if not photographs.is_dir():
        if options.kept:
            raise LeftOutError(f"{options.results} has nothing of it at {head()}")
        say(f"{name}: Thaw's split")
        shutil.rmtree(folder, ignore_errors=True)
        fresh(prepared)
        if source:
            ask_for(prepared, source)
        dvc(prepared, "repro", "--quiet", "split", "backbone")
        with atomic_folder(photographs) as partial:
            lay_out(prepared, partial)
    split = tables.read(prepared / "data" / "split.csv", tables.SPLIT)
    labels = {part: dict(split.filter(split=part).select("image_id", "label").rows()) for part in tables.SPLITS}
    ids = {
        Path(path).name: image_id
        for image_id, path in tables.read_images(prepared / "data" / "raw").select("image_id", "path").rows()
    }
    return Contest(name, source, prepared, photographs, labels, ids)


def ask_for(clone: Path, source: Path) -> tuple[float, float]:
    """Write the settings for photographs into params.yaml, as `make repro PHOTOS=` does before it runs the stages, but
    with one split. Return the seconds and the CPU seconds that it took."""
    if not (clone / "src" / "photographs.py").exists():
        raise ThawError("the last commit has no src/photographs.py: commit it first")
    spent = execute([sys.executable, "src/photographs.py", source], clone, clone / "photographs.log")
    clones.change(clone, split={"folds": None})
    return spent


def head() -> str:
    """Return the hash of the last commit, which is measured."""
    return clones.run(ROOT, "git", "rev-parse", "HEAD").strip()


def digest(*parts: str | bytes) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


# --- Contenders ---


def compete(contender: str, contest: Contest, options: argparse.Namespace) -> dict[int, Result]:
    """Return the result of a contender for each seed; none if it cannot take part. With `kept`, for those it has."""
    results = {}
    for seed in options.seeds:
        try:
            results[seed] = result_of(contender, contest, seed, options)
        except NotKeptError as reason:
            say(f"{contest.name}, {contender}, seed {seed}: {reason}")
        except LeftOutError as reason:
            say(f"{contest.name}, {contender}: left out: {reason}")
            return {}
    return results


def result_of(contender: str, contest: Contest, seed: int, options: argparse.Namespace) -> Result:
    """Return a result that was kept, or let the contender run and keep it.

    Raises:
        LeftOutError: If the contender is missing or fails.
        NotKeptError: If none was kept and none may be made.
    """
    split = (contest.prepared / "data" / "split.csv").read_bytes()
    if contender == "Thaw":
        code = contest.prepared.parent.name  # has the commit
    else:
        code = "".join((PEERS / name).read_text(encoding="utf-8") for name in (SCRIPTS[contender], "peer.py"))
    of = digest(split, code, SIZE, FROZEN_BLOCK, str(options.try_out))
    name = f"{contest.name}-{contender}-{seed}-{of}".replace(" ", "_")
    kept, log = (options.results / f"{name}.{ending}" for ending in ("json", "log"))
    if kept.exists():
        say(f"{contest.name}, {contender}, seed {seed}: kept in {kept}")
        return Result(**read_json(kept))
    if options.kept:
        raise NotKeptError("not run")
    say(f"{contest.name}, {contender}, seed {seed}")
    result = (thaw if contender == "Thaw" else peer)(contender, contest, seed, options, log)
    if result.predicted.keys() != contest.labels["validation"].keys() | contest.labels["test"].keys():
        raise LeftOutError(f"it did not predict each photograph of validation and test (see {log})")
    write_json(kept, result._asdict(), indent=None)
    return result


def thaw(contender: str, contest: Contest, seed: int, options: argparse.Namespace, log: Path) -> Result:
    """Run the one command in a new clone."""
    clone = options.results / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    changes = {section: {"seed": seed} for section in ("augment", "head", "fine_tune")}
    if options.try_out:
        changes["fine_tune"] |= {"epochs": 1, "warmup_epochs": 0}
    fresh(clone, **changes)
    asked = ask_for(clone, contest.source) if contest.source else (0, 0)
    ran = execute(["make", f"RUN={sys.executable}", "--old-file", "setup", "repro"], clone, log)
    seconds, cpu_seconds = (before + after for before, after in zip(asked, ran, strict=True))
    if (clone / "data/split.csv").read_bytes() != (contest.prepared / "data/split.csv").read_bytes():
        raise ThawError(f"the split of {contest.name} has changed: remove {contest.prepared.parent}")
    table = pl.read_csv(clone / "data/predictions/predictions.csv", infer_schema=False)
    evaluated = table.filter(pl.col("split").is_in(tables.EVALUATED))
    predicted = dict(evaluated.select("image_id", "fine_tuned_label").rows())
    shutil.rmtree(clone)
    return Result(predicted, seconds, cpu_seconds)


def peer(contender: str, contest: Contest, seed: int, options: argparse.Namespace, log: Path) -> Result:
    """Run the script of a peer. Raises LeftOutError if it is missing or fails."""
    predictions = log.with_suffix(".csv")
    predictions.unlink(missing_ok=True)
    command = command_of(contender, contest, options)
    command += ["--seed", seed, "--size", SIZE, "--predictions", predictions]
    seconds, cpu_seconds = execute(command, options.results, log)
    with predictions.open(encoding="utf-8", newline="") as file:
        predicted = {contest.ids[name]: label for name, label in csv.reader(file)}
    return Result(predicted, seconds, cpu_seconds)


SCRIPTS = {
    "Keras": "keras_tutorial.py",
    "timm": "timm_script.py",
    "fastai": "fastai_script.py",
    "AutoGluon": "autogluon_script.py",
}
IMPORTS = {
    "timm": "import timm, torchvision",
    "fastai": "import fastai, timm",
    "AutoGluon": "import autogluon.multimodal",
}


def command_of(contender: str, contest: Contest, options: argparse.Namespace) -> list:
    """Return the command of a peer, without the options that all have. Raises LeftOutError if its Python is missing."""
    backbone = contest.prepared / "models" / "backbone"
    one_epoch = ["--epochs", "1", "1"] if options.try_out else []
    if contender == "Keras":
        layers = [point["layer"] for point in read_json(backbone / "backbone.json")["cut_points"]]
        python, model = sys.executable, [backbone / "backbone.keras", "--cut", resolve(FROZEN_BLOCK, layers)]
    else:
        option = "autogluon" if contender == "AutoGluon" else "torch"
        python, model = getattr(options, option), [efficientnet_lite.weights_file("EfficientNetLite0")]
        if not python or subprocess.run([python, "-c", IMPORTS[contender]], capture_output=True).returncode:
            raise LeftOutError(f"no Python that can `{IMPORTS[contender]}` was named (--{option})")
        if contender == "timm":
            model += ["--thaw-from", FROZEN_BLOCK.removeprefix("block")]  # timm counts blocks from 0
        else:
            one_epoch = one_epoch[:2]
    return [python, PEERS / SCRIPTS[contender], contest.folder, *model, *one_epoch]


def execute(command: list, folder: Path, log: Path) -> tuple[float, float]:
    """Run a command to its end and return its seconds, and the CPU seconds of all its processes.

    Raises:
        LeftOutError: If it fails, with its last line; the log has all of them.
    """
    start = time.perf_counter()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, env=environment(), stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
        *_, last = ["it printed nothing", *filter(None, lines)]
        raise LeftOutError(f"{Path(command[1]).name} ended with status {process.returncode}: {last} (see {log})")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


# --- The table ---


def table_rows(contest: Contest, results: Mapping[str, Mapping[int, Result]]) -> list[dict]:
    """Return a row of figures for each contender, from its result of each seed."""
    rows = []
    for contender, by_seed in results.items():
        runs = list(by_seed.values())
        row = {"data": contest.name, "contender": contender, "seeds": list(by_seed)}
        row |= {f"{split}_images": len(labels) for split, labels in contest.labels.items()}
        for split in tables.EVALUATED:
            shares = correct(contest.labels[split], runs)
            row[split] = [mean(shares), *wilson(sum(shares), len(shares))]
        if contender != "Thaw" and "Thaw" in results:
            others = correct(contest.labels["test"], [*results["Thaw"].values()])
            row["less_thaw"] = paired(correct(contest.labels["test"], runs), others)
        row["seconds"] = median(run.seconds for run in runs)
        row["cpu_seconds"] = median(run.cpu_seconds for run in runs)
        rows.append(row)
    return rows


def correct(labels: Mapping[str, str], runs: Sequence[Result]) -> list[float]:
    """Return for each photograph the fraction of the runs that predict its label."""
    return [mean(run.predicted[image_id] == label for run in runs) for image_id, label in labels.items()]


def paired(shares: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return the mean difference of two contenders on the same photographs, with its 95 % interval."""
    differences = [share - other for share, other in zip(shares, others, strict=True)]
    middle, half = mean(differences), Z * stdev(differences) / math.sqrt(len(differences))
    return [middle, max(-1.0, middle - half), min(1.0, middle + half)]


def as_table(rows: Sequence[Mapping]) -> tuple[list[results_file.Column], list[list[results_file.Value]]]:
    """Return the columns and rows of the table; every figure of a contender in one row."""
    percent, points = "{:.1f} % ({:.1f} to {:.1f})", "{:+.1f} ({:+.1f} to {:+.1f})"
    columns = [
        "data: training, validation, test", "contender", "seeds", *((split, percent) for split in tables.EVALUATED),
        ("test, points more than Thaw", points), ("seconds", "{:.0f}"), ("CPU seconds", "{:.0f}"),
    ]  # fmt: skip
    lines = []
    for row in rows:
        images = ", ".join(f"{row[f'{split}_images']:,}" for split in tables.SPLITS)
        seeds = ", ".join(map(str, row["seeds"]))
        accuracies = [per_cent(row[split]) for split in tables.EVALUATED]
        difference = per_cent(row["less_thaw"]) if "less_thaw" in row else None
        seconds = [round(row[name]) for name in ("seconds", "cpu_seconds")]
        lines.append([f"{row['data']}: {images}", row["contender"], seeds, *accuracies, difference, *seconds])
    return columns, lines


def per_cent(fractions: Sequence[float]) -> list[float]:
    return [round(100 * fraction, 2) for fraction in fractions]


if __name__ == "__main__":
    run(main)
