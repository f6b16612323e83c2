"""What a person reads before a run begins: what was found, what was chosen, and why."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from thaw.backbones import registry
from thaw.backbones.base import InputSize
from thaw.core.encodings import printable, shown
from thaw.core.section import Section
from thaw.core.words import listed, plural
from thaw.guide.settings import Decision
from thaw.guide.survey import Survey
from thaw.guide.time_needed import Counts
from thaw.sources import formats, table

MAX_CLASSES = 12  # that are named, each with its photographs
MANY_CLASSES = 1000  # the report was tried with up to as many
ENLARGED = 1.25  # from this factor on, an enlarged photograph is worth a word


def found(survey: Survey, counts: Counts, split: Section) -> list[str]:
    """Return the lines that say what was found.

    Args:
        survey: of the photographs.
        counts: of the photographs in each split, before near-duplicates are known.
        split: the section of the parameters.
    """
    lines = classes(survey)
    lines += [f"  files: {_formats(survey)}; {_sizes(survey)}", f"  split: {_split(survey, counts, split)}"]
    groups = survey.group_sizes(split.group_columns)
    for column, sizes in groups.items():
        (group, size), name = sizes.most_common(1)[0], "" if column == "meta_group" else f" of {shown(column)}"
        lines.append(f"  groups{name}: {len(sizes):,}, never divided; the largest, {shown(group)}, has {size:,}")
    if not groups:
        lines += _unused_groups(survey)
    weights = [image.weight for image in survey.used]
    if min(weights) != max(weights):
        lines.append(f"  weights: from {min(weights):g} to {max(weights):g}")
    return lines + _left_out(survey) + [f"  note: {note}" for note in survey.listing.notes]


def classes(survey: Survey) -> list[str]:
    """Return the lines that name the classes, and the warnings; also where no split can be drawn."""
    used, classes = len(survey.used), survey.class_counts
    smallest, largest = (choose(classes, key=lambda item: item[1]) for choose in (min, max))
    lines = [
        f"found: {used:,} photographs of {len(classes):,} classes in {survey.path}",
        f"  classes: {_classes(classes)}",
    ]
    if len(classes) > MAX_CLASSES:
        (least, few), (most, many) = smallest, largest
        lines.append(f"  smallest class: {shown(least)} with {few:,}; largest: {shown(most)} with {many:,}")
    if len(classes) > MANY_CLASSES:
        lines.append(
            f"  warning: Thaw was tried with up to {MANY_CLASSES:,} classes; is the label what the model is to tell?"
        )
    return lines + [f"  warning: {warning}" for warning in survey.listing.warnings]


def _unused_groups(survey: Survey) -> list[str]:
    """Return a warning for each column `meta_…` whose name and values say that photographs belong together."""
    lines = []
    for key in sorted({key for image in survey.used for key in image.meta}):
        if sizes := table.group_sizes(key, (image.meta.get(key, "") for image in survey.used)):
            lines.append(
                f"  warning: meta_{shown(key)} has {sizes[0]:,} values for {sizes[1]:,} photographs. If those of one "
                f"value belong together, set split.group: meta_{shown(key)}; else they may be in training and in test"
            )
    return lines


def chosen(decisions: Sequence[Decision], changes: Sequence[tuple[str, object, object]], name: str) -> list[str]:
    """Return the lines that say what changes in the parameter file `name`, what stays, and why."""
    reasons = {decision.key: decision.why for decision in decisions}
    lines = [f"{name}: {plural(len(changes), 'change')}" if changes else f"{name}: nothing to change"]
    lines += [
        f"  {key}: {_value(old)} → {_value(new)}" + (f" ({reasons[key]})" if reasons.get(key) else "")
        for key, old, new in changes
    ]
    lines += [
        f"  {decision.key}: {_value(decision.new)} stays, as it was set"
        + (f" ({decision.why})" if decision.why else "")
        for decision in decisions
        if decision.old == decision.new and ("would suit" in decision.why or not decision.why)
    ]
    return lines


def enlarged(survey: Survey, size: int | None, of_network: InputSize) -> list[str]:
    """Return a line if photographs are much smaller than the input of the network.

    size: in pixels, as params.yaml has it. of_network: the sizes that the network takes.
    """
    factor = (size or of_network.trained) / survey.median_short_side
    if factor < ENLARGED:
        return []
    step = of_network.multiple if of_network.multiple > 1 else 32
    smallest = -(-max(of_network.smallest, registry.MIN_SIZE) // step) * step
    smaller = max(smallest, step * round(survey.median_short_side / step))
    line = f"  image.size: {_value(size)} stays, so the photographs are enlarged {factor:.1f} times"
    if smaller < (size or of_network.trained):
        line += f". With image.size: {smaller} a run is faster; which is more accurate, validation tells"
    return [line]


def _classes(classes: Sequence[tuple[str, int]]) -> str:
    by_size = sorted(classes, key=lambda item: -item[1]) if len(classes) > MAX_CLASSES else classes
    return listed([f"{shown(name)} {count:,}" for name, count in by_size], MAX_CLASSES)


def _formats(survey: Survey) -> str:
    counts = Counter(_format(image.path) for image in survey.used)
    return ", ".join(
        f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _format(path: Path) -> str:
    try:
        return formats.kind(path).name or "of no known format"
    except OSError:
        return "that cannot be read"


def _sizes(survey: Survey) -> str:
    ordered = sorted(survey.sizes, key=lambda size: (size[0] * size[1], size))
    opened = f"{len(ordered):,} were opened"
    if len(ordered) == len(survey.used):
        opened = "all were opened"
    if ordered[0] == ordered[-1]:
        text = "{}×{} pixels".format(*ordered[0])
    else:
        named = (("smallest", ordered[0]), ("median", survey.median_size), ("largest", ordered[-1]))
        text = ", ".join(f"{name} {width}×{height}" for name, (width, height) in named) + " pixels"
    if survey.unreadable:
        opened += f", and {len(survey.unreadable):,} cannot be read, such as {survey.unreadable[0]}"
    return f"{text} ({opened})"


def _split(survey: Survey, counts: Counts, split: Section) -> str:
    numbers = f"{counts.train:,} train, {counts.validation:,} validation, {counts.test:,} test"
    if counts.folds:
        numbers = f"{counts.folds} folds of about {counts.test:,}, each of which tests once"
    if split.after is not None:
        return f"test is what is newer than {split.after} (split.after); validation is drawn from the others"
    if not survey.subset_counts or (counts.folds and split.keep_subsets):
        return f"{numbers}, drawn by Thaw (before near-duplicates are united)"
    own = ", ".join(f"{count:,} {name}" for name, count in survey.subset_counts.items())
    if not split.keep_subsets:
        return f"{numbers}, drawn by Thaw; your own ({own}) is not used, since split.keep_subsets is false"
    drawn = [name for name in ("validation", "test") if name not in survey.subset_counts]
    if drawn:
        others = "the others" if any(not image.meta.get("subset") for image in survey.used) else "train"
        return f"your own, {own}; {' and '.join(drawn)} drawn from {others}: {numbers}"
    as_used = {"train": counts.train, "validation": counts.validation, "test": counts.test}
    is_as_given = survey.subset_counts == as_used
    # Photographs without a split train; of groups with one that is held out, none does.
    return f"your own, {own}" + ("" if is_as_given else f"; in all {numbers} (before near-duplicates are united)")


def _left_out(survey: Survey) -> list[str]:
    reasons: dict[str, Counter] = {}
    for image in survey.listing.images:
        if image.left_out:
            reasons.setdefault(image.left_out, Counter())[image.path.suffix.lower() or "no ending"] += 1
    parts = [
        f"{endings.total():,} {reason}" + (f" ({_endings(endings)})" if reason == formats.NO_IMAGE else "")
        for reason, endings in sorted(reasons.items(), key=lambda item: (-item[1].total(), item[0]))
    ]
    return [f"  left out: {'; '.join(parts)}"] if parts else []


def _endings(endings: Counter) -> str:
    common = ", ".join(f"{count:,} {printable(ending)}" for ending, count in endings.most_common(4))
    return common + (", …" if len(endings) > 4 else "")


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
