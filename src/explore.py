"""Look at the run in FiftyOne: `python src/explore.py` makes its dataset, or brings it up to date, and opens the App.

Each photograph stands there with its label, split, group and weight, what both models predict, and its frozen
features, by which the App finds what looks alike. Run it again after each `dvc repro`: what you added to the dataset
(tags, fields, saved views) stays.
"""

import argparse
import contextlib
import io
import os
import socket
import sys
from pathlib import Path

from thaw import exploration
from thaw.errors import ThawError, run

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
FEATURES = Path("data/features")
PREDICTIONS = Path("data/predictions")


def main() -> None:
    repository = Path.cwd()
    parser = argparse.ArgumentParser(description="Look at the run in FiftyOne.")
    parser.add_argument("--name", default=repository.name, help="of the dataset (default: %(default)s)")
    parser.add_argument("--no-app", action="store_true", help="only make the dataset")
    parser.add_argument("--port", type=int, default=5151, help="of the App, 0 for any (default: %(default)s)")
    parser.add_argument("--address", default="localhost", help="where the App listens (default: %(default)s)")
    options = parser.parse_args()

    finished = exploration.read(RAW, SPLIT, FEATURES, PREDICTIONS)
    warn_of_missing(finished)
    port = None if options.no_app else free_port(options.address, options.port)
    fiftyone = exploration.connect()
    dataset = exploration.open_dataset(options.name, repository)
    added, removed = exploration.update(dataset, finished, progress=sys.stdout.isatty())
    accuracies = exploration.evaluate(dataset, finished, progress=sys.stdout.isatty())
    for name in exploration.save_views(dataset):
        print(f"explore: warning: a saved view of yours is called {name!r}: rename it to have Thaw's", file=sys.stderr)
    right = ", ".join(f"the {words} has {accuracies[model]['test']:.1%}" for model, words in exploration.MODELS.items())
    print(f"explore: {len(finished.table):,} photographs in the FiftyOne dataset {options.name!r}, {added:,} of them "
          f"new, {removed:,} removed; of test {right} right", flush=True)  # fmt: skip
    if port:
        serve(fiftyone, dataset, options.address, port)


def warn_of_missing(finished: exploration.Run) -> None:
    missing = [path for path in finished.table["filepath"] if not Path(path).exists()]
    if missing:
        print(f"explore: warning: photographs that are gone and cannot be shown: {len(missing):,}, {missing[0]} first; "
              f"`dvc checkout {RAW}` brings them back", file=sys.stderr)  # fmt: skip


def free_port(address: str, port: int) -> int:
    """Return `port`, or any free one for 0; raises ThawError unless the App can listen there.

    Left to itself, FiftyOne would show what another server of its kind at that port has.
    """
    try:
        with socket.create_server((address, port)) as server:
            return server.getsockname()[1]
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ThawError(f"the App cannot listen at {address}:{port} ({why}): see --port and --address") from None


def serve(fiftyone, dataset, address: str, port: int) -> None:
    """Serve the App until Ctrl-C, in a browser where there is a screen."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # while its server starts, FiftyOne says that it cannot connect
            session = fiftyone.launch_app(dataset, address=address, port=port, remote=not has_screen())
    except fiftyone.core.service.ServiceListenTimeout:
        raise ThawError("the App did not start within FiftyOne's minute; the dataset is made: run this again") from None
    there = "" if has_screen() else f"; from another machine, `ssh -L {port}:localhost:{port}` to this one"
    print(f"explore: the App is at {session.url}{there}; Ctrl-C ends it", flush=True)
    try:
        session.wait(-1)
    except KeyboardInterrupt:
        session.close()


def has_screen() -> bool:
    """Whether a browser can be opened here; a text browser would take the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


if __name__ == "__main__":
    run(main)
