"""Hashes of files and folders, computed as DVC does: the same values are in dvc.lock."""

import hashlib
import json
from pathlib import Path


def md5(path: Path) -> str:
    """Return DVC's hash of a file, or of a folder (it ends in `.dir`)."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        entries = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
        listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
        return hashlib.md5(listing.encode()).hexdigest() + ".dir"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
