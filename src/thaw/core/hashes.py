"""Hashes of files and folders, and of ids."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thaw.core.store import Photograph


def sha256(path: "Path | Photograph") -> str:
    """Return the SHA-256 of what a file holds; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def order(seed: int | str, name: str) -> str:
    """Return what sorts names in an order that the seed draws, and that one name more or less does not change."""
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()


def md5(path: Path) -> str:
    """Return DVC's hash of a file, or of a folder (it ends in `.dir`), as it is in dvc.lock."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        entries = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
        listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
        return hashlib.md5(listing.encode()).hexdigest() + ".dir"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
