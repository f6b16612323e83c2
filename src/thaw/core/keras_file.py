"""What a `.keras` file says of itself, read without Keras: it is a ZIP archive."""

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from thaw.core.errors import ThawError, missing


def read_metadata(path: Path) -> dict[str, object]:
    """Return the metadata of a file that `thaw.engines.model_files` wrote; raises ThawError for any other file."""
    with as_one_line(path), zipfile.ZipFile(path) as file:
        return json.loads(file.read("metadata.json"))


@contextlib.contextmanager
def as_one_line(path: Path) -> Iterator[None]:
    """Turn the errors of reading a `.keras` file into ThawError."""
    try:
        yield
    except FileNotFoundError:
        raise missing(path) from None
    except PermissionError as error:
        raise ThawError(f"{path} cannot be read: {error.strerror}") from None
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ThawError(f"{path}: not a model of Thaw's ({error})") from error
