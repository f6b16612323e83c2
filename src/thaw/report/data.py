"""The sections on the data, and on where every number comes from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from thaw.report import elements
from thaw.report.results import Results

CLASSES_LISTED = 20
GROUPS_LISTED = 10
REASONS_LISTED = 8


def data(results: Results) -> str:
    health = results.health
    parts = [_counts(results), elements.facts(_facts(results))]
    if results.weighted:
        rows = [_counts_row(weight, counts) for weight, counts in health.weights if sum(counts)]
        names = results.classes if len(results.classes) <= CLASSES_LISTED else ()
        if names:
            table = elements.table("wide", [elements.heads("Weight", [*names, "all"])], rows)
            parts.append(elements.figure("Weights of the labels", table))
    if health.disputed:
        shown = health.disputed[:GROUPS_LISTED]
        items = "".join(f"<li>{escape(', '.join(ids[:6]))}{' …' if len(ids) > 6 else ''}</li>" for ids in shown)
        more = elements.rest(len(health.disputed), len(shown), "groups", "split.csv")
        listing = f'<ul class="columns">{items}</ul>{more}'
        parts.append(elements.figure("Near-duplicates with different labels", listing))
    if health.missing:
        rows = [elements.row(reason, [elements.cell(f"{n:,}")]) for reason, n in health.missing[:REASONS_LISTED]]
        table = elements.table("wide", [elements.heads("Reason", ["Photographs"])], rows)
        more = elements.rest(len(health.missing), len(rows), "reasons", "missing.csv")
        parts.append(elements.figure("Left out", table + more))
    said = "Training photographs, plain and as augmented"
    picture = f'<div class="wide-picture">{elements.picture(results.augmentations, said, 924)}</div>'
    parts.append(elements.figure(said, picture))
    return "\n".join(parts)


def _counts(results: Results) -> str:
    counts = results.health.counts
    by_class = list(zip(results.classes, zip(*counts.values(), strict=True), strict=True))
    shown = by_class
    if len(by_class) > CLASSES_LISTED:
        shown = sorted(by_class, key=lambda item: sum(item[1]))[:CLASSES_LISTED]
    rows = [_counts_row(name, of_class) for name, of_class in shown]
    rows.append(_counts_row("all", [sum(of_split) for of_split in counts.values()]))
    table = elements.table("wide", [elements.heads("Photographs", [*counts, "all"])], rows)
    return table + elements.rest(len(by_class), len(shown), "classes, the smallest,", "split.csv")


def _counts_row(name: str, counts: Sequence[int]) -> str:
    return elements.row(name, [elements.cell(f"{n:,}") for n in (*counts, sum(counts))])


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    health = results.health
    least, median, most = health.shortest
    sizes = ", ".join(f"{size} ({count:,})" for size, count in health.sizes)
    others = health.distinct_sizes - len(health.sizes)
    more = f" and {others:,} more" if others else ""
    if health.distinct_sizes == 1:
        yield "Size", f"all {health.sizes[0][0]} pixels"
    else:
        yield "Sizes", f"shorter side {least:,} to {most:,} pixels, median {median:,}; the commonest: {sizes}{more}"
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


def provenance(results: Results) -> str:
    """Say how each number was measured, and from which files and parameters."""
    method = (
        "Intervals hold 95 %. That of the plain accuracy is Wilson’s, as is that of the weighted one where all labels "
        "weigh the same; all others are percentiles of a bootstrap that draws whole groups of near-duplicates, seeded, "
        "and that of the calibration error inverts a test on it. The same inputs and parameters give this file to the "
        "byte."
    )
    inputs = elements.table("wide pairs", [], [_pair(path, md5) for path, md5 in results.inputs.items()])
    parameters = elements.table("wide pairs", [], [_pair(key, value) for key, value in flat(results.parameters)])
    source = [(name, results.source[key]) for name, key in (("Licence", "license"), ("Citation", "citation"))]
    note = (
        "MD5 as DVC has it: the same hashes stand in <code>dvc.lock</code>, there with the parameters of every stage "
        "before; <code>images.csv</code> holds the SHA-256 of each photograph."
    )
    return "\n".join(
        [
            elements.paragraph(method),
            elements.figure("What was read", inputs + elements.paragraph(note, "soft")),
            elements.figure("Parameters", parameters),
            elements.facts((name, text) for name, text in source if text),
        ]
    )


def _pair(key: str, value: str) -> str:
    return f'<tr><th scope="row"><code>{escape(key)}</code></th><td class="text"><code>{escape(value)}</code></td></tr>'


def flat(parameters: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key of each parameter and its value as params.yaml has it."""
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
