"""Paths as people write them: in params.yaml, in a table, in a list, on the command line."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from thaw.core.errors import ThawError

ADDRESS = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://")  # such as https:// or gs://; one letter may be a drive
COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")  # as `ls --color=always` writes it
ESCAPES = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}  # of Git, as of C


def named_path(path: str, name: str) -> Path:
    """Return the absolute path of a file or folder that a person named, in params.yaml or on the command line.

    A path is taken as `existing` finds it; one that is not there yet, in its first form that is absolute. A relative
    path begins at the current folder, also in an experiment that DVC runs in a temporary copy of the project: there it
    begins at the project itself, since the copy has only what Git tracks.

    Raises ThawError, which calls the path `name`, if it begins with `~user` and there is no such user.
    """
    project = project_folder()
    found = existing(path, project)
    if not os.path.lexists(project / found):
        found = next((form for form in _forms(path) if form.startswith("/")), path)
        if found.startswith("~"):
            raise ThawError(f"{name} {path}: there is no such home")
    return project / found


def is_address(text: str) -> bool:
    """Return whether a text is the address of something elsewhere, such as `https://…`, and not a path."""
    return ADDRESS.match(text.strip()) is not None


def existing(path: str, folder: Path = Path()) -> str:
    """Return a path; or, if nothing is there, a form of it where something is.

    The forms have `~`, `$HOME` and other variables expanded, and are without the quotes, backslashes, colours, spaces
    or `file://` that a shell, a desktop or an editor puts around it. `folder`: where a relative path begins.
    """
    return next((form for form in (path, *_forms(path)) if os.path.lexists(folder / form)), path)


def without_parents(path: Path) -> Path:
    """Return an absolute path without `..`, which means another folder where a link stands before it."""
    short = Path(os.path.abspath(path))  # noqa: PTH100 - removes `..` without following links
    if ".." not in path.parts or not os.path.lexists(path):  # in the second case, the error names what was meant
        return short
    try:
        return short if short.samefile(path) else path.resolve()
    except OSError:
        return path.resolve() if path.exists() else short


def project_folder() -> Path:
    """Return the folder that a person works in: the current one, unless DVC has copied it for an experiment."""
    here, original = Path.cwd(), os.environ.get("DVC_ROOT")
    if original and Path(original).resolve() / ".dvc" / "tmp" in here.resolve().parents:
        return Path(original) / here.relative_to(repository(here))
    return here


def repository(folder: Path) -> Path:
    """Return the root of DVC's repository, which may be a folder around the project; `folder` itself if there is none.

    A folder `.dvc` that is made anywhere else would be taken for another repository.
    """
    return next((path for path in (folder, *folder.parents) if (path / ".dvc").is_dir()), folder)


def _forms(path: str) -> Iterator[str]:
    stripped = path.strip()
    yield os.path.expanduser(stripped)  # noqa: PTH111 - an unknown `~user` stays
    yield os.path.expandvars(stripped)
    yield COLOUR.sub("", stripped)
    if stripped.startswith('"') and stripped.endswith('"'):
        yield _without_git_quotes(stripped[1:-1])
    if stripped.startswith("file:"):
        yield os.fsdecode(unquote_to_bytes(urlsplit(stripped).path))
    try:
        words = shlex.split(stripped)
    except ValueError:  # a quote that does not end
        return
    if len(words) == 1:
        yield os.path.expanduser(os.path.expandvars(words[0]))  # noqa: PTH111 - as above


def _without_git_quotes(name: str) -> str:
    """Return a name that Git has quoted, as `git ls-files` prints one that is not ASCII: `"caf\\303\\251.jpg"`."""

    def character(match: re.Match[bytes]) -> bytes:
        escaped = match[1]
        return bytes([int(escaped, 8) & 255]) if escaped.isdigit() else ESCAPES.get(escaped, escaped)

    return os.fsdecode(re.sub(rb"\\([0-7]{3}|.)", character, os.fsencode(name), flags=re.DOTALL))
