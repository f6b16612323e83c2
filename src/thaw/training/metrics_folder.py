"""The metrics and curves of a training, as DVCLive writes them, in files of fixed names: DVC clears no others."""

import contextlib
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl
from dvclive import Live
from scmrepo.exceptions import SCMError

from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.core.files import atomic_files, write_text

CURVES = Path("plots/metrics")  # where DVCLive writes a table of each curve: its steps and values


@contextlib.contextmanager
def replace(folder: Path, curves: Collection[str] = ()) -> Iterator[Live]:
    """Yield what logs metrics and curves; they replace those in `folder` if the block ends without an error.

    A curve of which nothing is logged is a file of its header. What else is in the folder stays.

    Args:
        folder: for `metrics.json` and `plots/metrics/{curve}.tsv`.
        curves: those whose files must be there.

    Raises:
        ThawError: a Git repository has no commit, which DVCLive refuses.
    """
    with atomic_files(folder) as temporary:
        with _live(temporary) as live:
            yield live
        for curve in curves:
            if not (path := temporary / CURVES / f"{curve}.tsv").exists():
                write_text(path, f"step\t{curve}\n")


@contextlib.contextmanager
def replace_with_table(folder: Path, table: str) -> Iterator[Live]:
    """Yield the same for trainings whose number and names differ between runs: all their curves make one table.

    Args:
        folder: for `metrics.json` and the table.
        table: path of the table in it. It has a row for each step of each training: of what is logged as `plain/loss`,
            `plain` is in the column `training`, and the value in the column `loss`.

    Raises:
        ThawError: as `replace`.
    """
    with atomic_files(folder) as temporary:
        with _live(temporary) as live:
            yield live
        rows = _join(temporary / CURVES)
        shutil.rmtree(temporary / CURVES)
        tables.write(rows, temporary / table)


@contextlib.contextmanager
def _live(folder: Path) -> Iterator[Live]:
    try:
        live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None)
    except SCMError as error:
        raise ThawError(f"DVCLive needs a commit in this Git repository ({error}): run `git commit` first") from None
    with live:
        yield live


def _join(curves: Path) -> pl.DataFrame:
    """Return the curves in a folder of DVCLive's as the table of `replace_with_table`."""
    trainings: dict[str, pl.DataFrame] = {}
    for path in sorted(curves.rglob("*.tsv")):
        name, curve = path.parent.relative_to(curves).as_posix(), pl.read_csv(path, separator="\t")
        if name in trainings:
            curve = trainings[name].join(curve, on="step", how="full", coalesce=True)
        trainings[name] = curve
    rows = [curve.sort("step").select(pl.lit(name).alias("training"), pl.all()) for name, curve in trainings.items()]
    return pl.concat(rows, how="diagonal_relaxed")
