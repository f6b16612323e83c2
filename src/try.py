"""Try the model on a page: `make try`, or `python src/try.py`, opens a browser; Ctrl-C ends it.

Drop, paste or photograph a picture: the page shows what the model predicts, where it looked, the nearest training
photographs, and whether the picture is like these at all. Several pictures give a table to download. The page is served
on the loopback address alone. No picture leaves the machine, and none is written to disk.

Without `data/features`, `data/split.csv` and `models/backbone` of the run, the page predicts without the training
photographs, and says so.
"""

import argparse
import contextlib
import secrets
import sys
import threading
import webbrowser
from pathlib import Path

import thaw

# isort: split
if __name__ == "__main__":
    import thaw.engines.keras_without_tensorflow  # noqa: F401 - for a model that is converted now

from thaw.core.errors import ThawError, run
from thaw.core.paths import named_path
from thaw.core.task import MULTI
from thaw.exploration.app import has_screen
from thaw.prediction import deployed_model, several_labels, stream
from thaw.prediction.ood import TrainingRun
from thaw.serving import page, server
from thaw.serving.answers import Model
from thaw.serving.training_photographs import TrainingPhotographs

MODEL = Path("models/model.keras")
RAW = Path("data/raw")
RUN = TrainingRun(Path("data/features"), Path("data/split.csv"), Path("models/backbone"), Path("dvc.lock"))
CACHE = Path("~/.cache/thaw/networks")
PORT = 8642


def main() -> None:
    options = parse()
    description = deployed_model.read_description(options.model)
    with server.Server(options.port) as listening:
        read_decision = (several_labels if description.task == MULTI else deployed_model).read_decision
        decision = read_decision(options.model, description.classes)
        training, why = None, ""
        try:
            training = TrainingPhotographs(RUN, RAW, options.model, description)
        except ThawError as error:
            why = str(error)
            print(f"try: without the training photographs: {why}", file=sys.stderr)
        network = deployed_model.converted_network(options.model, named_path(str(options.cache), "--cache"))
        model = Model(network, description, decision, training, options.bits)
        key = secrets.token_urlsafe(12)
        listening.show(*page.render(page.facts(model, key, why)), key, {"/answer": model.answer, "/row": model.row})
        print(f"try: {listening.address} (Ctrl-C ends it)", flush=True)
        if not has_screen():
            port = listening.server_address[1]
            print(f"try: from another machine, `ssh -L {port}:localhost:{port}` to this one first", flush=True)
        elif not options.no_browser:
            # In a thread: some browsers keep `open` until they are closed, and load the page before.
            threading.Thread(target=webbrowser.open, args=(listening.address,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            listening.serve_forever()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Try the model on a page in the browser.",
        epilog="example: python src/try.py --port 8700 --no-browser",
    )
    parser.add_argument("--port", type=int, default=PORT, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    stream.add_bits(parser)
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of converted models (default: %(default)s)")
    options = parser.parse_args()
    if not 0 <= options.port <= 65535:
        parser.error(f"--port should be from 0 to 65535, not {options.port}")
    return options


if __name__ == "__main__":
    run(main)
