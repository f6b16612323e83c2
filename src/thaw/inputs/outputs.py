"""Where the stages write, so that nothing of a person's is kept there: DVC deletes outputs before a stage runs."""

import filecmp
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import yaml

from thaw.core.errors import ThawError
from thaw.core.files import read_utf8
from thaw.core.paths import project_folder
from thaw.core.words import listed
from thaw.inputs.named import Named
from thaw.sources import nearby
from thaw.sources.leftovers import is_leftover

SYSTEM_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}  # appear in a folder that a person has looked at
MAX_NAMES = 3  # of files, in a message


def declared(pipeline: Path) -> list[Path]:
    """Return the paths that the stages of the pipeline file `pipeline`, dvc.yaml, write.

    Raises ThawError, one line, if the file is missing or is no pipeline.
    """
    try:
        stages = yaml.safe_load(read_utf8(pipeline))["stages"]
        entries = [
            entry for stage in stages.values() for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])
        ]
        return [Path(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries]
    except FileNotFoundError:
        raise ThawError(f"{pipeline} is missing: run from the folder that holds it") from None
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise ThawError(f"{pipeline} is not a pipeline of DVC: {error}; `git diff {pipeline}` shows changes") from None


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
    inside_of = _by_place((target, output) for target, output in written.items())
    around = _by_place((folder, output) for target, output in written.items() for folder in _parents(target))
    folders: dict[Path, tuple[str, Path | None]] = {}  # each is looked at once: they hold many files
    for named in own:
        path = named.path
        if path.is_symlink() or path.name == "..":
            path = Path(os.path.realpath(path))
        if path.parent not in folders:
            real = os.path.realpath(path.parent)
            folders[path.parent] = real, next(filter(None, (_at(p, inside_of) for p in (real, *_parents(real)))), None)
        folder, holder = folders[path.parent]
        real = os.path.join(folder, path.name)  # noqa: PTH118 - of many thousand paths
        holder = holder or _at(real, inside_of)
        if output := holder or _at(real, around):
            remedy = "copy it elsewhere first" if holder else _inside(named.path, written)
            raise ThawError(
                f"{named.parameter}: {named.path} {'lies in' if holder else 'holds'} {output}, which this pipeline "
                f"writes: DVC would delete {named.what} there; {remedy}"
            )


def _parents(path: str) -> list[str]:
    return [str(folder) for folder in Path(path).parents]


Places = dict[str | tuple[int, int], Path]


def _by_place(outputs: Iterable[tuple[str, Path]]) -> Places:
    """Return outputs by real path and, of folders that are there, by device and inode.

    A folder that is mounted at two places, or whose name may be written in capitals, has several paths.
    """
    found: Places = {}
    for path, output in outputs:
        for key in filter(None, (path, _folder_id(path))):
            found.setdefault(key, output)
    return found


def _at(path: str, outputs: Places) -> Path | None:
    """Return the output at a real path, or None."""
    return outputs.get(path) or outputs.get(_folder_id(path) or path)


def _folder_id(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - of many thousand paths
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


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
        names = listed(others, MAX_NAMES)
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
