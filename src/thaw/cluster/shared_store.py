"""What several machines share: a folder that all of them see, or a bucket of an S3 server.

Content has a name such as `outputs/kind/block`. It is whole or absent.
"""

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from thaw.core.errors import ThawError
from thaw.core.paths import is_address, named_path

VARIABLE = "THAW_STORE"  # of the environment
S3 = "s3://"
PARTIAL = ".partial"  # ends the name of a file that is being written
LEFT_SECONDS = 86_400.0  # after which such a file is what a killed writer left, and is removed


class Store(Protocol):
    """Content by name. A method raises FileNotFoundError if a name is absent, OSError if the store cannot be used."""

    address: str  # from which another machine opens it

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted, without the folder; an empty list if there is none."""

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """Return some bytes from `start` on, or all that follow."""

    def write(self, name: str, content: bytes) -> None:
        """Write content; what had the name is replaced."""

    def remove(self, name: str) -> None:
        """Remove content; it may be absent."""

    def free(self) -> int | None:
        """Return the free bytes; None if nobody knows."""


def open_store(address: str) -> Store:
    """Return the store at an address: `s3://bucket/prefix`, or an absolute path."""
    return Bucket(address) if address.startswith(S3) else Folder(Path(address))


def named_store(name: str) -> Store:
    """Return the store that a person has named; a folder is made. Raises ThawError if this machine cannot use it."""
    if name.startswith(S3):
        return Bucket(name)
    if is_address(name):
        raise ThawError(f"{VARIABLE} should be a folder or s3://bucket/prefix, not {name!r}")
    path = named_path(name, VARIABLE)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ThawError(f"{VARIABLE}: the folder {path} cannot be made: {error.strerror}") from None
    return Folder(path)


class Folder:
    """A folder that all machines see under the same path."""

    def __init__(self, path: Path):
        self._path, self.address = path, str(path)

    def names(self, folder: str) -> list[str]:
        try:
            paths = list((self._path / folder).iterdir())
        except FileNotFoundError:
            return []
        for path in paths:
            if path.name.endswith(PARTIAL):
                with contextlib.suppress(OSError):  # it is gone, or another user's
                    if time.time() - path.stat().st_mtime > LEFT_SECONDS:
                        path.unlink()
        return sorted(path.name for path in paths if not path.name.startswith("."))

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        with (self._path / name).open("rb") as file:
            file.seek(start)
            return file.read(-1 if size is None else size)

    def write(self, name: str, content: bytes) -> None:
        path = self._path / name
        for folder in list(reversed(Path(name).parents))[1:]:  # not the store itself: it may be unmounted
            (self._path / folder).mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}{PARTIAL}")  # of this writer alone
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def free(self) -> int | None:
        return shutil.disk_usage(self._path).free


class Bucket:
    """Objects of an S3 bucket below a prefix. Server and keys are those of the machine, as its AWS settings say."""

    def __init__(self, address: str):
        import botocore.session  # only those who use a bucket wait for it

        self.address = address.rstrip("/")
        self._bucket, _, prefix = self.address.removeprefix(S3).partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        with self._plain_errors():
            self._client = botocore.session.get_session().create_client("s3")

    def names(self, folder: str) -> list[str]:
        prefix = f"{self._prefix}{folder}/"
        with self._plain_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            entries = [entry for page in pages for entry in page.get("Contents", [])]
        # Other programs keep an object without a byte for a folder. Of such a one, a server refuses to send the start.
        return sorted(entry["Key"].removeprefix(prefix) for entry in entries if entry["Size"])

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        span = {"Range": f"bytes={start}-{'' if size is None else start + size - 1}"}
        with self._plain_errors():
            return self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, **span)["Body"].read()

    def write(self, name: str, content: bytes) -> None:
        with self._plain_errors():
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content)

    def remove(self, name: str) -> None:
        with self._plain_errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def free(self) -> int | None:
        return None

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Raise what botocore raises as OSError, with its message alone: its own errors cannot be sent to others."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            absent = error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404")
            raise (FileNotFoundError if absent else OSError)(f"{self.address}: {error}") from None
        except (BotoCoreError, ValueError) as error:  # the latter: an endpoint without http://
            raise OSError(f"{self.address}: {error}") from None
