"""The sections on the data, and on where every number comes from."""

import json
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from thaw.core.params import flatten
from thaw.report import elements
from thaw.report.results import Results

MAX_CLASSES_LISTED = 20
MAX_GROUPS_LISTED = 10
MAX_GROUP_IDS = 6  # of one group
MAX_REASONS_LISTED = 8


def write_data(results: Results) -> Markup:
    """Count the photographs, list what may be wrong with them, and show them as augmented."""
    health = results.health
    parts = [_counts(results), elements.description_list(_properties(results))]
    if results.weighted and len(results.classes) <= MAX_CLASSES_LISTED:
        rows = [_counts_row(weight, counts) for weight, counts in health.weights if sum(counts)]
        table = elements.table("wide", [elements.header("Weight", [*results.classes, "all"])], rows)
        parts.append(elements.figure("Weights of the labels", table))
    if health.disputed:
        groups = health.disputed[:MAX_GROUPS_LISTED]
        items = (
            Markup("<li>{}{}</li>").format(", ".join(ids[:MAX_GROUP_IDS]), " …" if len(ids) > MAX_GROUP_IDS else "")
            for ids in groups
        )
        listing = Markup('<ul class="columns">{}</ul>').format(Markup().join(items))
        rest = elements.rest(len(health.disputed), len(groups), "groups", "split.csv")
        parts.append(elements.figure("Near-duplicates with different labels", listing + rest))
    if health.missing:
        rows = [elements.row(reason, [elements.cell(f"{n:,}")]) for reason, n in health.missing[:MAX_REASONS_LISTED]]
        table = elements.table("wide", [elements.header("Reason", ["Photographs"])], rows)
        rest = elements.rest(len(health.missing), len(rows), "reasons", "missing.csv")
        parts.append(elements.figure("Left out", table + rest))
    caption = "Training photographs, plain and as augmented"
    picture = elements.picture(results.augmentations, caption, 924)
    parts.append(elements.figure(caption, Markup('<div class="wide-picture">{}</div>').format(picture)))
    return Markup("\n").join(parts)


def _counts(results: Results) -> Markup:
    counts = results.health.counts
    classes = list(zip(results.classes, zip(*counts.values(), strict=True), strict=True))
    listed = classes
    if len(classes) > MAX_CLASSES_LISTED:
        listed = sorted(classes, key=lambda item: sum(item[1]))[:MAX_CLASSES_LISTED]
    rows = [_counts_row(name, class_counts) for name, class_counts in listed]
    rows.append(_counts_row("all", [sum(split_counts) for split_counts in counts.values()]))
    table = elements.table("wide", [elements.header("Photographs", [*counts, "all"])], rows)
    return table + elements.rest(len(classes), len(listed), "classes, the smallest,", "split.csv")


def _counts_row(name: str, counts: Sequence[int]) -> Markup:
    return elements.row(name, [elements.cell(f"{n:,}") for n in (*counts, sum(counts))])


def _properties(results: Results) -> Iterator[tuple[str, str]]:
    """Yield the name of each property of the data, and its description."""
    health = results.health
    if health.distinct_sizes == 1:
        yield "Size", f"all {health.sizes[0][0]} pixels"
    else:
        low, median, high = health.shorter_side
        sizes = ", ".join(f"{size} ({count:,})" for size, count in health.sizes)
        others = health.distinct_sizes - len(health.sizes)
        more = f" and {others:,} more" if others else ""
        yield "Sizes", f"shorter side {low:,} to {high:,} pixels, median {median:,}; the commonest: {sizes}{more}"
    if health.groups:
        photographs, groups = elements.plural(health.grouped, "photograph"), elements.plural(health.groups, "group")
        yield (
            "Near-duplicates",
            f"{photographs} in {groups}, the largest of {health.largest_group}; a group never stands in two splits; "
            f"{len(health.disputed):,} of them with different labels",
        )
    else:
        yield "Near-duplicates", "none were found, or none were looked for"
    if not health.missing:
        yield "Left out", "no photograph"
    if not results.weighted:
        yield "Weights", "every label counts the same"


def write_provenance(results: Results) -> Markup:
    """Say how each number was measured, and from which files and parameters."""
    method = (
        "Intervals hold 95 %. That of the plain accuracy is Wilson’s, as is that of the weighted one where all labels "
        "weigh the same; all others are percentiles of a bootstrap that draws whole groups of near-duplicates, seeded, "
        "and that of the calibration error inverts a test on it. The same inputs and parameters give this file to the "
        "byte."
    )
    note = Markup(
        "MD5 as DVC has it: the same hashes stand in <code>dvc.lock</code>, there with the parameters of every stage "
        "before; <code>images.csv</code> holds the SHA-256 of each photograph."
    )
    inputs = elements.table("wide pairs", [], [_pair(path, md5) for path, md5 in results.inputs.items()])
    pairs = flatten_parameters(results.parameters)
    parameters = elements.table("wide pairs", [], [_pair(key, value) for key, value in pairs])
    source = [(name, results.source[key]) for name, key in (("Licence", "license"), ("Citation", "citation"))]
    return Markup("\n").join(
        [
            elements.paragraph(method),
            elements.figure("What was read", inputs + elements.paragraph(note, "soft")),
            elements.figure("Parameters", parameters),
            elements.description_list((name, text) for name, text in source if text),
        ]
    )


def _pair(key: str, value: str) -> Markup:
    row = Markup('<tr><th scope="row"><code>{}</code></th><td class="text"><code>{}</code></td></tr>')
    return row.format(key, value)


def flatten_parameters(parameters: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the dotted key of each parameter, and its value as params.yaml has it."""
    for key, value in flatten(parameters):
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
