"""How an export is written, checked and kept."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from thaw.core.errors import ThawError
from thaw.core.files import atomic_entries, atomic_file
from thaw.core.silence import silence
from thaw.exports.base import Engine, Format, ModelToExport

Checked = TypeVar("Checked")
MAX_MESSAGE = 200  # characters of a converter's own message


def make_folder(folder: Path) -> None:
    """Make the output folder; raises ThawError, before any work, if files cannot be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ThawError(f"{folder} cannot be made: {error.strerror}: see --output") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ThawError(f"{folder} cannot be written to: Permission denied: see --output")


def export(export_format: Format, source: ModelToExport, path: Path, check: Callable[[Engine], Checked]) -> Checked:
    """Write a model in a format, and keep it if the check passes. Converters and engines print nothing meanwhile.

    Args:
        export_format: The format.
        source: The model.
        path: The file or folder to write.
        check: Gets the engine that runs the export. If it raises, nothing is written to `path`.

    Returns:
        What `check` returns.

    Raises:
        ThawError: The converter or the engine failed, or the check did.
        OSError: The disk is full.
    """
    open_output = atomic_file if path.suffix else atomic_entries  # what else a person keeps in the folder stays
    with open_output(path) as temporary, silence(1, 2):
        try:
            export_format.write(source, temporary)
            engine = export_format.load(temporary)
        except (ThawError, OSError):
            raise
        except Exception as error:  # each converter has its own
            message = " ".join(str(error).split())[:MAX_MESSAGE]
            raise ThawError(
                f"this network cannot be written in this format ({type(error).__name__}: {message})"
            ) from error
        return check(engine)
