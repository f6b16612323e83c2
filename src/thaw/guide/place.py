"""Where a person's photographs are: which source reads them, and which path params.yaml gets."""

import stat
from pathlib import Path

from thaw.core.encodings import printable
from thaw.core.errors import ThawError
from thaw.core.paths import is_address, named_path, without_parents
from thaw.sources import formats, nearby
from thaw.sources.base import is_one_line
from thaw.sources.own_files import raise_if_lost

ARCHIVES = {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"}


def find(text: str) -> tuple[str, Path]:
    """Return the source that reads the photographs, `folder` or `table`, and their absolute path.

    Args:
        text: a path as a person typed it: absolute, relative to the current folder, or beginning with `~`.

    Raises:
        ThawError: there is nothing at the path, or nothing that can be a folder or a table of photographs.
    """
    if not text.strip():
        raise ThawError("the path of the photographs is empty: make repro PHOTOS=path")
    if is_address(text):
        raise ThawError(f"{text.strip()} is an address: download it, unpack it, and name the folder or the table")
    path = without_parents(named_path(text, "the path"))
    if printable(path) != str(path) or not is_one_line(str(path)):
        raise ThawError(f"the path {printable(path)!r} has characters that cannot be written to params.yaml: rename it")
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ThawError(f"{path} does not exist{nearby.similar(path)}") from None
    except OSError as error:
        raise_if_lost(error, path)
        raise ThawError(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        return "folder", path
    if not stat.S_ISREG(mode):
        raise ThawError(f"{path} is neither a folder nor a file")
    if path.suffix.lower() in ARCHIVES:
        raise ThawError(f"{path} is an archive: unpack it, and name the folder with its photographs")
    if path.suffix.lower() in formats.ENDINGS or formats.kind(path).name in formats.OWN_ENDINGS:
        raise ThawError(f"{path} is one photograph: name the folder with a folder of photographs for each class")
    return "table", path
