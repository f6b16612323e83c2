"""Whether the photographs of one's own, or another file, have changed: a hash of what they hold, quick to take again.

DVC sees only what lies in the project. What is read is remembered with the state of each file (size, times, inode), as
Git and DVC do it: what has the same state is not read again.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from thaw.core import hashes
from thaw.core.files import write_text
from thaw.sources.base import Listing
from thaw.sources.own_files import raise_if_lost

State = list[int] | None  # None: there is nothing at the path
RECENT_NS = 2_000_000_000  # a file that changed so shortly before may change once more and keep its times


class Memory:
    """The states and hashes of files, and what they came to, kept in a file from one run to the next."""

    def __init__(self, path: Path):
        self.path = path
        self.started = time.time_ns()
        self._hashed: set[str] = set()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self.value: str | None = content["value"]
            self.known: dict[str, tuple[State, str]] = {key: (state, sha) for key, state, sha in content["files"]}
        except (OSError, ValueError, KeyError, TypeError):  # it is missing, or damaged: all is read again
            self.value, self.known = None, {}

    def same(self) -> str | None:
        """Return the value that was kept if no file or folder that it came from has changed since, or None."""
        unchanged = all(sha is not None and _state(path) == state for path, (state, sha) in self.known.items())
        return self.value if unchanged else None

    def hash(self, path: Path) -> str:
        """Return the hash of a file, or what is in its place: a word. Raises UnreachableError if the disk fails."""
        key, state = os.fspath(path), _state(os.fspath(path))
        old_state, sha = self.known.get(key, (None, None))
        if not sha or state is None or state != old_state:  # of what was only watched there is no hash
            sha = _read(path)
        self.known[key] = (state, sha)
        self._hashed.add(key)
        return sha

    def keep(self, value: str, paths: Iterable[Path]) -> None:
        """Keep a value with the states of the paths, files or folders, that it came from."""
        files = []
        for path in sorted({os.fspath(path) for path in paths}):
            state, sha = self.known[path] if path in self._hashed else (_state(path), "")
            recent = state is not None and self._is_recent(state)
            files.append([path, state, None if recent else sha])
        with contextlib.suppress(OSError):  # without it, the next run reads all files again
            write_text(self.path, json.dumps({"value": value, "files": files}))

    def _is_recent(self, state: list[int]) -> bool:
        """Return whether a file may change once more and keep its times.

        A date of last change in the future, as a camera's wrong clock gives it, says nothing of this. The time of the
        inode is set by the file system: if it is in the future, the clock of that is ahead, and the file may be new.
        """
        _, modified, changed, _ = state
        return changed > self.started - RECENT_NS or abs(modified - self.started) < RECENT_NS


def of_listing(listing: Listing, root: Path | None, memory: Memory) -> str:
    """Return a hash of all that the stage `download` reads: labels, splits and other columns, and the files themselves.

    Args:
        listing: as the source gives it.
        root: the folder or table that it comes from; None if it is neither.
        memory: keeps the result.

    Raises:
        UnreachableError: the disk or share fails.
    """
    digest = hashlib.sha256(repr((listing.info, listing.max_per_class)).encode())
    watched = [image.path for image in listing.images if image.path.is_absolute()]
    for image in listing.images:
        content = "" if image.left_out else memory.hash(image.path)
        columns = (image.image_id, image.file, image.label, image.weight, image.left_out, sorted(image.meta.items()))
        known = [image.known] if image.known else []
        digest.update(repr((*columns, content, *known)).encode(errors="surrogateescape"))
    if root is not None:
        watched += [root] if root.is_file() else [Path(folder) for folder, _, _ in os.walk(root, followlinks=True)]
    memory.keep(digest.hexdigest(), watched)
    return digest.hexdigest()


def of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _state(path: str) -> State:
    try:
        status = os.stat(path)  # noqa: PTH116 - of many thousand paths
    except (OSError, ValueError):
        return None
    # The time of the last change of the inode moves, too, where a file is replaced by one of the same size and date.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read(path: Path) -> str:
    try:
        return hashes.sha256(path)
    except OSError as error:
        raise_if_lost(error, path)
        return f"cannot be read ({error.strerror})"
    except ValueError:  # a name with a zero byte
        return "no such file"
