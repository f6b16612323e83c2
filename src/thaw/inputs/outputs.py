"""Where the stages write, so that nothing of a person's is kept there: DVC deletes outputs before a stage runs."""

import filecmp
import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from thaw.core.errors import ThawError
from thaw.core.paths import project_folder
from thaw.inputs.named import Named
from thaw.sources import nearby
from thaw.sources.leftovers import is_leftover

SYSTEM_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}  # appear in a folder that a person has looked at
MAX_NAMES = 3  # of files, in a message


def declared(pipeline: Path) -> list[Path]:
    """Return the paths that the stages of the pipeline file `pipeline`, dvc.yaml, write.

    Raises ThawError if the file is missing.
    """
    try:
        stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
    except FileNotFoundError:
        raise ThawError(f"{pipeline} is missing: run from the folder that holds it") from None
    entries = [
        entry for stage in stages.values() for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])
    ]
    return [Path(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries]


def check_apart(own: Iterable[Named], outputs: Iterable[Path]) -> None:
    """Check that what a person names is not among what the pipeline writes.

    A folder such as `data/raw` is the pipeline's as a whole, even where only files in it are outputs. Folders at the
    top, such as `data`, are not.

    Args:
        own: files and folders; links are followed.
        outputs: the paths that the stages write, relative to the project.

    Raises:
        ThawError: one lies in an output, or holds one.
    """
    paths = [path for output in outputs for path in (*output.parents[:-2], output)]
    projects = (Path(), project_folder())  # the second is another one in an experiment
    written = {os.path.realpath(project / path): path for project in projects for path in paths}
    folders: dict[Path, str] = {}  # each is followed once: they hold many files
    for named in own:
        path, parent = named.path, named.path.parent
        if parent not in folders:
            folders[parent] = os.path.realpath(parent)
        real = os.path.realpath(path) if path.is_symlink() or not path.name else f"{folders[parent]}/{path.name}"
        for target, output in written.items():
            inside, around = f"{real}/".startswith(f"{target}/"), f"{target}/".startswith(f"{real}/")
            if inside or around:
                remedy = "copy it elsewhere first" if inside else _inside(path, written)
                raise ThawError(
                    f"{named.parameter}: {path} {'lies in' if inside else 'holds'} {output}, which this pipeline "
                    f"writes: DVC would delete {named.what} there; {remedy}"
                )


def _inside(folder: Path, written: Iterable[str]) -> str:
    """Return which folder with photographs is probably meant instead of one that holds outputs, and what to do."""
    outputs = {os.path.realpath(path) for path in written}
    entries = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_leftover(entry.name, True))
    own = [entry for entry in entries if not _holds(entry, outputs) and nearby.holds_photograph(entry)]
    if not own:
        return "name another folder"
    if len(own) == 1:
        return f"did you mean {own[0]}?"
    names = ", ".join(entry.name for entry in own[:MAX_NAMES]) + (", …" if own[MAX_NAMES:] else "")
    return f"move {names} to a folder of their own, such as {folder / 'photographs'}, and name that"


def _holds(folder: Path, outputs: Iterable[str]) -> bool:
    """Return whether a folder is one of the outputs, which are real paths, or holds one."""
    real = os.path.realpath(folder)
    return any(output == real or output.startswith(f"{real}/") for output in outputs)


def check_own(folder: Path, made: Iterable[str], lost: Path | None = None) -> None:
    """Check that an output holds only what its stage has made, before the stage replaces it.

    SYSTEM_FILES do not count.

    Args:
        folder: the output; it may be missing.
        made: the files that the stage has made there, relative to it.
        lost: the table that lists them, if it is missing.

    Raises:
        ThawError: it holds another file; nothing was touched.
    """
    if others := sorted(_files(folder) - set(made)):
        names = ", ".join(others[:MAX_NAMES]) + (f" and {len(others) - MAX_NAMES:,} more" if others[MAX_NAMES:] else "")
        first = f"run `dvc checkout {lost}`, which lists what it wrote and is missing; then " if lost else ""
        raise ThawError(
            f"{folder} would be replaced, and holds {names}, which this pipeline {'would' if lost else 'did'} not write"
            f": {first}move what is yours out of it{'' if lost else ' first'}, or delete the folder"
        )


def equal_files(folder: Path, new: Path) -> set[str]:
    """Return the files of a folder, relative to it, that are the same in the folder `new`: replacing loses none."""
    names = _files(folder)
    both = (name for name in names if (folder / name).is_file() and (new / name).is_file())
    return {name for name in both if filecmp.cmp(folder / name, new / name, shallow=False)}


def _files(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in files if path.name not in SYSTEM_FILES}
