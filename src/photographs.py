"""Prepare a run on photographs of your own: `python src/photographs.py PATH`, or `make repro PHOTOS=PATH`, which also
runs it.

PATH is a folder with a folder of photographs for each class; a folder with `train`, `validation` and `test` folders of
that form, whose split is kept; or a table with the columns `path` and `label`, or such as `filename` and `class` (CSV,
Parquet or JSON lines). It is looked at, and params.yaml gets the settings that suit it; comments stay. What you have
set yourself in params.yaml is kept.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import thaw  # noqa: F401 - first: it chooses the kernels of other libraries

# isort: split
import polars as pl

from thaw.backbones import registry
from thaw.core import params, progress, store, tables
from thaw.core.errors import ThawError, run
from thaw.core.paths import named_path
from thaw.core.section import Section
from thaw.core.task import MULTI
from thaw.experiments import params_edit
from thaw.guide import columns, place, settings, summary, survey, time_needed
from thaw.inputs import outputs
from thaw.inputs.named import Named
from thaw.sources import added
from thaw.sources.base import DatasetInfo, Listing
from thaw.splitting import duplicates, folds, own_groups, splits, subsets

EXIF = "exif"  # as `split.time`
PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
SOLAR_CELLS = Path("recipes/elpv.yaml")
RAW = Path("data/raw")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python src/photographs.py ~/photographs/birds",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("path", nargs="?", help="a folder or a table (default: the environment's PHOTOS)")
    path = parser.parse_args().path or os.environ.get("PHOTOS", "")
    with progress.lines("photographs"):
        prepare(path)


def prepare(text: str) -> None:
    """Look at the photographs of the path `text`, print what is found and chosen, and write it to params.yaml."""
    before = params.load(PARAMS)  # a mistake that was there before is not the photographs'
    if before.task == MULTI:
        raise ThawError(
            "task: multi is not prepared by this command, which is for photographs of one label each: for several, set "
            "download.table as docs/guides/several-labels.md says, then run `make repro`; for one, set task: single"
        )
    source, path = place.find(text)
    declared = outputs.declared(PIPELINE)
    outputs.check_apart([Named("PHOTOS", path, "photographs")], declared)
    section = getattr(before.download, source)
    is_same = before.download.source == source and is_same_file(section.path, path)
    if is_same:
        path = Path(section.path)  # as it is written: a second call changes nothing
    columns_of_table = columns.decide(path, section) if source == "table" and not is_same else []
    update = {decision.key.rpartition(".")[2]: decision.new for decision in columns_of_table} | {"path": str(path)}
    listing = survey.list_photographs(source, section.model_copy(update=update), path)
    used = (Named("PHOTOS", image.path, "photographs") for image in listing.images if not image.left_out)
    outputs.check_apart(used, declared)
    photographs = survey.open_sample(source, path, listing)

    values = params_edit.read(PARAMS)
    flat, overlay = (dict(params.flatten(part)) for part in (values, params_edit.read(SOLAR_CELLS)))
    decisions = settings.decide(settings.choose(photographs, before.split), flat, overlay, chosen_before=is_same)
    decisions += columns_of_table
    if before.download.bits is not None:
        decisions.append(settings.Decision("download.bits", before.download.bits, before.download.bits, ""))
    written = settings.place(photographs, is_same) | {decision.key: decision.new for decision in decisions}
    changes = params_edit.apply(values, params_edit.nest(written))
    after = params.parse(params_edit.dump(values), f"{PARAMS} with {path}")
    labelled = labelled_since(after.download, listing.info.classes)
    classes = (*listing.info.classes, *(name for name in after.download.new_classes if name in labelled.info.classes))
    try:
        after.check_photographs(classes, survey.as_table(photographs).to_dict(as_series=False))
        counts = count(photographs, after.split)
        after.check_folds(are_folds=counts.folds > 0)
    except ThawError:  # what was found says why
        print("\n".join(summary.classes(photographs)), flush=True)
        raise

    lines = summary.found(photographs, counts, after.split)
    if more := sum(not image.left_out for image in labelled.images):
        lines.append(f"  besides: {more:,} of download.added, which these numbers do not count")
    lines += summary.chosen(decisions, changes, PARAMS.name)
    lines += summary.enlarged(photographs, after.image.size, registry.input_size(after.backbone.name))
    print("\n".join([*lines, time_line(after, counts, photographs)]), flush=True)
    if changes:
        params_edit.write(PARAMS, params_edit.dump(values))
        return
    download = after.download
    is_comparable = is_same and download.bits is None and download.corrections is None  # each alters the copies
    if is_comparable and (changed := survey.changes_since(RAW, photographs)):
        what = ", ".join(f"{number:,} {kind}" for kind, number in changed.items())
        print(f"photographs: {what} since the last run: `dvc repro` copies them again", flush=True)


def is_same_file(written: str | None, path: Path) -> bool:
    try:
        return written is not None and named_path(written, "the path").samefile(path)
    except (OSError, ThawError):
        return False


def labelled_since(download: Section, classes: Sequence[str]) -> Listing:
    """Return the photographs of `download.added`: none where it names no table, or where its photographs are elsewhere.

    Raises ThawError, one line, if the table cannot be read.
    """
    path = added.added_path(download)
    if path is None or not added.is_here(path):
        return Listing(DatasetInfo(added.NAME, "", "", ()), [])
    return added.find(path, {*classes, *download.new_classes})


def count(photographs: survey.Survey, split: Section) -> time_needed.Counts:
    """Draw the splits or folds as the stage `split` will, without near-duplicates and EXIF dates, which it alone reads.

    Raises ThawError if a class has too few photographs, or a parameter of the split does not fit them.
    """
    table, classes = survey.as_table(photographs), len(photographs.class_counts)
    own, _ = own_groups.read(table, split.group_columns)
    if split.after is not None and split.time == EXIF:  # the stage alone reads the files, and says whether they fit
        validation, test = (round(fraction * len(table)) for fraction in (split.validation, split.test))
        return time_needed.Counts(len(table) - validation - test, validation, test, classes=classes)
    image_ids = table["image_id"].to_list()
    table = table.with_columns(
        group=pl.Series(duplicates.connected(image_ids, *own)),
        own_group=own[0] if own else pl.lit(""),
        subset=subsets.read(table, store.Photographs(RAW), split),
        is_added=pl.lit(False),
        stratum="label",
    )
    choice = folds.choose(table, split)
    if choice.count:
        folds.draw(table, choice.count, split)
        held_out = len(table) // choice.count  # in each round
        return time_needed.Counts(len(table) - 2 * held_out, held_out, held_out, classes, folds=choice.count)
    drawn = splits.draw(table, split)
    numbers = ((drawn == name).sum() for name in tables.SPLITS)
    return time_needed.Counts(*numbers, classes=classes)


def time_line(parameters: Section, counts: time_needed.Counts, photographs: survey.Survey) -> str:
    speed = time_needed.measure_speed()
    seconds = time_needed.estimate(parameters, counts, photographs.decode_seconds, speed)
    if seconds is None:
        return f"time: not known beforehand for {parameters.backbone.name} on the engine {parameters.image.engine}"
    trainings = counts.folds * parameters.split.repeats
    rounds = f" ({counts.folds} folds: it trains up to {trainings + 1} times)" if counts.folds else ""
    return (
        f"time: about {time_needed.text(seconds)} for all stages{rounds}, an estimate with what else this machine does "
        "now; what is up to date does not run"
    )


if __name__ == "__main__":
    run(main)
