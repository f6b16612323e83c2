"""Label where it helps: `next` says which photographs, `check` which labels may be wrong, `take` takes what comes back.

`python src/label.py next FOLDER --count 50` ranks photographs without labels by what labelling them would teach. The
folder `label_next` gets a contact sheet, a table, and tasks for Label Studio with the model's prediction filled in.
`python src/label.py check` does the same with the likeliest wrong labels of the finished run, in `label_check`.

`python src/label.py take FILE` takes labels back: the table, an export of Label Studio's, a folder of classes, or
`fiftyone:NAME`. New ones go to the table that `download.added` names, changed ones to that of `download.corrections`.
Nothing is overwritten: contradictions are listed. The next `dvc repro` runs what depends on them.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import thaw

# isort: split
if __name__ == "__main__":
    import thaw.engines.keras_without_tensorflow  # noqa: F401

from thaw.core import locks, params
from thaw.core.encodings import shown
from thaw.core.errors import ThawError, run
from thaw.core.paths import named_path, project_folder
from thaw.core.section import Section
from thaw.core.store import Member
from thaw.core.task import SINGLE
from thaw.experiments import params_edit
from thaw.labelling import (
    candidates,
    fiftyone_tags,
    frozen_network,
    hand_over,
    model_predictions,
    returned,
    suspects,
    taking,
)
from thaw.labelling import known as known_labels
from thaw.labelling import state as labels
from thaw.labelling.hand_over import Item
from thaw.labelling.known import Artifacts, Known
from thaw.labelling.selection import Choice, choose
from thaw.labelling.state import State
from thaw.labelling.taking import Taken
from thaw.prediction import names, output, stream
from thaw.prediction.sheet import MAX_IMAGES
from thaw.sources import added, fiftyone_setup

PARAMS = Path("params.yaml")
ARTIFACTS = Artifacts(Path("data/raw"), Path("data/split.csv"), Path("data/features"))
PREDICTIONS = Path("data/predictions")
BACKBONE = Path("models/backbone")
MODEL = Path("models/model.keras")
ADDED, CORRECTIONS = "labelled/photographs.csv", "labelled/corrections.csv"  # unless params.yaml names others
CONFLICTS = "conflicts.csv"  # beside the first one
CACHE = Path("~/.cache/thaw")
MAX_SHOWN = 5  # conflicts that are printed


def main() -> None:
    options = parse()
    if options.command != "take":
        carry_out(options)
        return
    with locks.exclusive(Path(__file__), "label: waiting for another `take`"):  # both would append to the same tables
        carry_out(options)


def carry_out(options: argparse.Namespace) -> None:
    parameters = params.load(PARAMS)
    if parameters.task != SINGLE:
        raise ThawError(f"src/label.py knows one label for each photograph, and task is {parameters.task}")
    if getattr(options, "fiftyone", None):
        fiftyone_setup.connect("--fiftyone")  # before the work
    commands = {"next": next_photographs, "check": check_labels, "take": take}
    commands[options.command](options, parameters)


def next_photographs(options: argparse.Namespace, parameters: Section) -> None:
    if not options.from_scratch and not ARTIFACTS.features.exists():
        raise ThawError(
            f"{ARTIFACTS.features} is missing: run `dvc repro`; where nothing is labelled yet, --from-scratch needs "
            "only `dvc repro backbone`"
        )
    table, corrections = added.added_path(parameters.download), added.corrections_path(parameters.download)
    if table is None and (options.from_scratch or is_source(parameters)):
        table = project_folder() / ADDED
    state = read_state(
        parameters, Known() if options.from_scratch else known_labels.read(ARTIFACTS), table, corrections
    )
    hand_over.check_replaceable(options.output, state.labels, state.judged)
    caches = named_path(str(options.cache), "--cache")
    network, cache = frozen_network.open_network(parameters, BACKBONE, ARTIFACTS.features, caches / "features")
    frozen_network.check_same(state.known, network)
    if absent := candidates.add_known(state.known, cache):
        say(f"{absent:,} labelled photographs are not on this machine: near-duplicates of these are not left out")
    left_out: dict[Path, str] = {}
    items = stream.expand(names.read(options.paths, sys.stdin.buffer), left_out)
    photographs = candidates.read(items, network, cache)
    if left_out:
        say(output.left_out(left_out))
    if photographs.unread:
        path, why = min(photographs.unread.items())
        say(f"{len(photographs.unread):,} could not be read, such as {shown(path)}: {shown(why)}")
    pool = candidates.find(photographs, state, cache, parameters.split.mirrored_duplicates)
    print(f"label: {pool.summary}", flush=True)
    choice = choose(pool.features, state.labelled(pool.entries), state.classes, options.count)
    chosen = pool.photographs.take(choice.positions)
    if member := next((path for path in chosen.paths if isinstance(path, Member)), None):
        raise ThawError(f"{member} is in a shard: run `python src/bring_out.py FOLDER` in its run, and name FOLDER")
    predicted = [(None, None)] * len(chosen.paths)
    if MODEL.exists() and not options.from_scratch:
        predicted = model_predictions.predict(
            chosen.paths, MODEL, caches / "networks", state.classes, parameters.download.bits
        )
    ranked = zip(chosen.paths, chosen.hashes, choice.scores, choice.reasons, predicted, strict=True)
    items = [
        Item(path.absolute(), sha256, float(score), reason, *prediction)
        for path, sha256, score, reason, prediction in ranked
    ]
    write(options, items, state, parameters.download.bits, how(choice))
    if cache.error:
        say(f"the features are not kept: {cache.error}")


def check_labels(options: argparse.Namespace, parameters: Section) -> None:
    download = parameters.download
    tables = added.added_path(download), added.corrections_path(download)
    state = read_state(parameters, known_labels.read(ARTIFACTS), *tables)
    hand_over.check_replaceable(options.output, state.labels, state.judged)
    found = suspects.find(state.known, ARTIFACTS.raw, PREDICTIONS, options.count, state.judged)
    if found.absent:
        say(f"{found.absent:,} photographs are not on this machine: `dvc checkout download` brings them back")
    if found.judged:
        say(f"{found.judged:,} were looked at before")
    if not found.items:
        labels = f"{'other ' * bool(found.absent or found.judged)}label of {len(state.known.labels):,}"
        print(f"label: no {labels} is contradicted by the other photographs")
        return
    write(options, found.items, state, parameters.download.bits, "the likeliest wrong labels")


def take(options: argparse.Namespace, parameters: Section) -> None:
    if options.fiftyone_field and not options.file.startswith(returned.FIFTYONE):
        raise ThawError(f"--field names a field of a dataset: {returned.FIFTYONE}NAME")
    begins = options.from_scratch or is_source(parameters)
    has_run = (ARTIFACTS.raw / "images.csv").exists() and not options.from_scratch
    table = added.added_path(parameters.download) or project_folder() / ADDED
    corrections = added.corrections_path(parameters.download) or project_folder() / CORRECTIONS
    known = known_labels.read_images(ARTIFACTS) if has_run else Known()
    state = read_state(parameters, known, table, corrections)
    any_class = begins or not has_run
    if not any_class and (strange := sorted(set(state.added.values()) - set(state.classes))):
        raise ThawError(
            f"{table} has the label {strange[0]!r}, which is no class: add it to {added.NEW_CLASSES}; or move the "
            "table away, if it is of other photographs"
        )
    given = returned.read(options.file, options.photographs, lambda name: from_fiftyone(name, options.fiftyone_field))
    labelled = taking.Labelled(None if any_class else state.classes, state.images, state.added, state.judged)
    taken = taking.decide(given, labelled, added.NEW_CLASSES)
    if not taken.has_photographs:
        first = f": the first is {shown(taken.conflicts[0][-1])}" if taken.conflicts else ""
        raise ThawError(f"{options.file} names no photograph that is here{first}; --photographs says where they are")
    taking.write_conflicts(table.with_name(CONFLICTS), taken.conflicts)
    taking.write(taken, table, corrections, project_folder(), Path(options.file).name)
    report(taken, table.with_name(CONFLICTS))
    if not options.from_scratch:
        name_tables(parameters, table, corrections)
    is_first = begins and not is_source(parameters)
    if is_first and table.exists():
        name = ADDED if table == project_folder() / ADDED else str(table)
        print(f"label: next, `make repro PHOTOS={shlex.quote(name)}`")
    elif taken.added or taken.corrected:
        print("label: next, `dvc repro`")
    if taken.conflicts and not (taken.added or taken.corrected or taken.same or taken.confirmed):
        sys.exit(1)


def name_tables(parameters: Section, table: Path, corrections: Path) -> None:
    """Name the tables in params.yaml, if they are there and it names none."""
    download = parameters.download
    is_added = table.exists() and not is_source(parameters)
    wanted = {"download.added": ADDED} if is_added and not download.added else {}
    wanted |= {"download.corrections": CORRECTIONS} if corrections.exists() and not download.corrections else {}
    if wanted:
        values = params_edit.read(PARAMS)
        params_edit.apply(values, params_edit.nest(wanted))
        params_edit.write(PARAMS, params_edit.dump(values))
        print(f"label: {PARAMS} has {', '.join(f'{key}: {value}' for key, value in wanted.items())} now")


def read_state(parameters: Section, known: Known, table: Path | None, corrections: Path | None) -> State:
    """Return what is labelled, by the run and by the two tables; None: there is no such table."""
    new = tuple(name for name in parameters.download.new_classes if name not in known.classes)
    return labels.read(known, (*known.classes, *new) if known.classes else (), table, corrections)


def is_source(parameters: Section) -> bool:
    """Return whether the photographs of the run are those that came back, as after a beginning without a run."""
    download = parameters.download
    return download.source == "table" and named_path(download.table.path, "the table") == project_folder() / ADDED


def from_fiftyone(name: str, field: str | None):
    fiftyone_setup.connect("src/label.py")
    return fiftyone_tags.labels(name, field or fiftyone_tags.LABEL)


def write(options: argparse.Namespace, items: Sequence[Item], state: State, bits: int | None, description: str) -> None:
    hand_over.check_replaceable(options.output, state.labels, state.judged)
    served, items = hand_over.write(options.output, items, state.classes, bits)
    print(f"label: {len(items):,} photographs in {options.output}, {description}")
    if len(items) > MAX_IMAGES:
        say(f"{hand_over.SHEET} shows the first {MAX_IMAGES:,} of them")
    if options.fiftyone:
        new, others = fiftyone_tags.write(options.fiftyone, items)
        print(f"label: {len(items):,} of the FiftyOne dataset {options.fiftyone!r} have the tag {fiftyone_tags.TAG!r}, "
              f"{new:,} of them new")  # fmt: skip
        if others:
            say(f"{others:,} of them have another file now than before: their label and prediction there were removed")
    print(f"label: for Label Studio, the photographs are in {served}", flush=True)
    print(f"label: then `python src/label.py take {options.output / hand_over.TABLE}`, or what your program exports")


def how(choice: Choice) -> str:
    return "those that the model doubts most, spread out" if choice.by_doubt else "those that are typical of the others"


def report(taken: Taken, conflicts: Path) -> None:
    parts = [f"{len(taken.added):,} new"]
    parts += [f"{len(taken.corrected):,} labels corrected"] if taken.corrected else []
    parts += [f"{len(taken.confirmed):,} confirmed"] if taken.confirmed else []
    parts += [f"{taken.same:,} known before"] if taken.same else []
    parts += [f"{taken.unlabelled:,} without a label"] if taken.unlabelled else []
    parts += [f"{len(taken.conflicts):,} not taken, listed in {conflicts}"] if taken.conflicts else []
    print(f"label: {'; '.join(parts)}", flush=True)
    for place, path, label, reason in taken.conflicts[:MAX_SHOWN]:
        where = f"{place} ({shown(path)})" if path and path != place else shown(place)
        say(f"{where}: {shown(label) + ': ' if label else ''}{shown(reason)}")
    if len(taken.conflicts) > MAX_SHOWN:
        say(f"and {len(taken.conflicts) - MAX_SHOWN:,} more")


def say(text: str) -> None:
    print(f"label: {text}", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python src/label.py next new/ --count 20",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    following = commands.add_parser("next", help="Choose what to label next.")
    following.add_argument(
        "paths", nargs="+", metavar="PATH", help="a folder, file or pattern, or - for a list on stdin"
    )
    checking = commands.add_parser("check", help="Show the likeliest wrong labels of the run.")
    for command, folder in ((following, "label_next"), (checking, "label_check")):
        command.add_argument("--count", type=int, default=50, metavar="N", help="photographs (default: %(default)s)")
        command.add_argument(
            "--output", type=Path, default=Path(folder), metavar="FOLDER", help="what is written (default: %(default)s)"
        )
        command.add_argument(
            "--fiftyone", metavar="NAME", help="also make a FiftyOne dataset of this name, or add to it"
        )
    following.add_argument(
        "--cache", type=Path, default=CACHE, metavar="FOLDER", help="of features and models (default: %(default)s)"
    )
    taking_back = commands.add_parser("take", help="Take labels back.")
    taking_back.add_argument("file", metavar="FILE", help="a table, an export, a folder of classes, or fiftyone:NAME")
    taking_back.add_argument(
        "--photographs", type=Path, metavar="FOLDER", help="where the photographs are now, if moved"
    )
    taking_back.add_argument(
        "--field", dest="fiftyone_field", metavar="NAME", help="with the labels, of a FiftyOne dataset"
    )
    for command in (following, taking_back):
        command.add_argument("--from-scratch", action="store_true", help="there is no run of these photographs yet")
    options = parser.parse_args()
    if getattr(options, "count", 1) < 1:
        parser.error(f"--count should be at least 1, not {options.count}")
    return options


if __name__ == "__main__":
    run(main)
