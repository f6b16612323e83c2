"""Files of varying names in one file: DVC clears an output that is a folder, whatever a person has put there."""

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from thaw.core.errors import ThawError, missing
from thaw.core.files import check_no_link, temporary_folder


@contextlib.contextmanager
def pack(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; if the block ends without an error, its files become the ZIP archive `path`.

    The archive is complete or absent. The same files give the same bytes.
    """
    check_no_link(path)
    with temporary_folder(path) as temporary:
        folder, archive = temporary / "files", temporary / "archive"
        folder.mkdir()
        yield folder
        with zipfile.ZipFile(archive, "w") as target:
            for file in sorted(file for file in folder.rglob("*") if file.is_file()):
                name = file.relative_to(folder).as_posix()
                target.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), file.read_bytes())
        archive.replace(path)


@contextlib.contextmanager
def unpack(path: Path) -> Iterator[Path]:
    """Yield a temporary folder with the files of an archive that `pack` wrote.

    Raises ThawError if it is missing or damaged.
    """
    with tempfile.TemporaryDirectory(prefix="thaw-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        except FileNotFoundError:
            raise missing(path) from None
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        try:
            yield Path(folder)
        except FileNotFoundError as error:  # a member that the reader wants
            if not str(error.filename).startswith(folder):
                raise
            raise _damaged(path, f"{Path(error.filename).relative_to(folder)} is missing in it") from error


def _damaged(path: Path, why: str) -> ThawError:
    return ThawError(f"{path} is damaged ({why}): `dvc checkout {path}` brings it back")
