"""The FiftyOne App, which shows a dataset in a browser."""

import contextlib
import io
import os
import socket
import sys

from thaw.core.errors import ThawError


def free_port(address: str, port: int) -> int:
    """Return `port`, or any free port for 0; raises ThawError where the App cannot listen there.

    FiftyOne itself does not check this: it would show the dataset of another server of its kind at that port.
    """
    try:
        with socket.create_server((address, port)) as server:
            return server.getsockname()[1]
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ThawError(f"the App cannot listen at {address}:{port} ({reason}): see --port and --address") from None


def launch(dataset, address: str, port: int):
    """Start the App and return its FiftyOne session; opens a browser where there is a screen.

    Raises ThawError where the App does not start in time.
    """
    import fiftyone
    from fiftyone.core.service import ServiceListenTimeout

    try:
        # While its server starts, FiftyOne prints that it cannot connect.
        with contextlib.redirect_stdout(io.StringIO()):
            return fiftyone.launch_app(dataset, address=address, port=port, remote=not has_screen())
    except ServiceListenTimeout:
        raise ThawError("the App did not start within FiftyOne's minute; the dataset is made: run this again") from None


def has_screen() -> bool:
    """Say whether a browser can be opened here; a text browser would take over the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
