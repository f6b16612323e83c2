"""A database of the tests' own for FiftyOne.

FiftyOne joins a database that another of its processes has started, such as an open App, whatever
FIFTYONE_DATABASE_DIR says: tests would write into a person's datasets. It joins none if FIFTYONE_DATABASE_URI names
one.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

MAX_START_S = 180  # of the database, on a busy machine


@contextlib.contextmanager
def own_database(home: Path) -> Iterator[int]:
    """Start MongoDB in the folder `home`, set FiftyOne's environment for this process and its children; yield its port.

    To be used before FiftyOne is imported: a process stays with one database.
    """
    (home / "db").mkdir()
    log = home / "mongo.log"
    mongod = Path(find_spec("fiftyone").submodule_search_locations[0]) / "db/bin/mongod"
    options = ["--port", "0", "--bind_ip", "127.0.0.1", "--nounixsocket"]
    process = subprocess.Popen([mongod, "--dbpath", home / "db", "--logpath", log, *options], stdout=subprocess.DEVNULL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("FIFTYONE_")]:
                patch.delenv(name)
            port = _port(process, log)
            patch.setenv("FIFTYONE_DATABASE_URI", f"mongodb://127.0.0.1:{port}")
            patch.setenv("FIFTYONE_DATABASE_DIR", str(home / "unused"))
            patch.setenv("FIFTYONE_CONFIG_PATH", str(home / "config.json"))
            patch.setenv("FIFTYONE_DATASET_ZOO_DIR", str(home))
            patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
            yield port
    finally:
        process.terminate()
        process.wait()


def _port(process: subprocess.Popen, log: Path) -> int:
    """Wait until the database says at which port it listens."""
    end = time.monotonic() + MAX_START_S
    while process.poll() is None and time.monotonic() < end:
        for line in log.read_text().splitlines() if log.exists() else ():
            with contextlib.suppress(ValueError):  # a line that is not yet complete
                entry = json.loads(line)
                if entry["msg"] == "Waiting for connections":
                    return entry["attr"]["port"]
        time.sleep(0.1)
    raise AssertionError(f"MongoDB does not start: {log} says why")


def joined() -> tuple[str, int, bool]:
    """Return host and port of the database that FiftyOne uses here, and whether it joined or started one by itself."""
    from fiftyone.core.odm import database

    return *database.get_db_client().address, database._db_service is not None
