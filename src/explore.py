"""Look at a finished run in FiftyOne: `python src/explore.py` makes a dataset of it, or updates it, and opens the App.

Each photograph has its label, split, group and weight, the predictions of both models, and its frozen features, by
which the App finds similar photographs. Run this again after each `dvc repro`: what you added to the dataset (tags,
fields, saved views) stays.
"""

import argparse
import sys
from pathlib import Path

from thaw.core.errors import run
from thaw.core.metrics_file import MODELS
from thaw.exploration import analysis, app, finished_run, samples, saved_views
from thaw.exploration.finished_run import Run
from thaw.sources import fiftyone_setup

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
FEATURES = Path("data/features")
PREDICTIONS = Path("data/predictions")


def main() -> None:
    repository = Path.cwd()
    parser = argparse.ArgumentParser(
        description="Look at the run in FiftyOne.", epilog="example: python src/explore.py --name cells --port 0"
    )
    parser.add_argument("--name", default=repository.name, help="of the dataset (default: that of this folder)")
    parser.add_argument("--no-app", action="store_true", help="only make the dataset")
    parser.add_argument("--port", type=int, default=5151, help="of the App, 0 for any (default: %(default)s)")
    parser.add_argument("--address", default="localhost", help="where the App listens (default: %(default)s)")
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="with them as files, from src/bring_out.py")
    options = parser.parse_args()
    progress = sys.stdout.isatty()

    finished = finished_run.read(RAW, SPLIT, FEATURES, PREDICTIONS, options.photographs)
    warn_of_missing_files(finished, options.photographs)
    port = None if options.no_app else app.free_port(options.address, options.port)
    fiftyone_setup.connect("src/explore.py")
    dataset = samples.open_dataset(options.name, repository, finished.table["image_id"])
    added, removed = samples.update(dataset, finished, progress)
    analysis.analyse_features(dataset, finished, progress)
    accuracies = analysis.evaluate(dataset, finished, progress)
    for name in saved_views.save(dataset, several=finished.values is not None):
        print(
            f"explore: warning: you have a saved view called {name!r}: rename it, so that Thaw can add its own",
            file=sys.stderr,
        )
    right = ", ".join(f"the {name} has {accuracies[model]['test']:.1%}" for model, name in MODELS.items() if accuracies)
    on_test = f"on test, {right} right" if right else "each has several labels, which FiftyOne does not evaluate"
    print(f"explore: {len(finished.table):,} photographs in the FiftyOne dataset {options.name!r}, {added:,} of them "
          f"new, {removed:,} removed; {on_test}", flush=True)  # fmt: skip
    if port:
        show(dataset, options.address, port)


def warn_of_missing_files(finished: Run, folder: Path | None) -> None:
    missing = [path for path in finished.table["filepath"] if not Path(path).exists()]
    if missing:
        remedy = f"python src/bring_out.py {folder}" if folder else "dvc checkout download"
        print(
            f"explore: warning: {len(missing):,} photographs are missing and cannot be shown; the first is "
            f"{missing[0]}; `{remedy}` brings them back",
            file=sys.stderr,
        )


def show(dataset, address: str, port: int) -> None:
    """Show the dataset in the App until Ctrl-C."""
    session = app.launch(dataset, address, port)
    remote = "" if app.has_screen() else f"; from another machine, `ssh -L {port}:localhost:{port}` to this one"
    print(f"explore: the App is at {session.url}{remote}; Ctrl-C ends it", flush=True)
    try:
        session.wait(-1)
    except KeyboardInterrupt:
        session.close()


if __name__ == "__main__":
    run(main)
