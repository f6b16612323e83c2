"""The sections on the data of several labels, and on where every number comes from."""

from markupsafe import Markup

from thaw.evaluation.multi_label.measure import resamples_text
from thaw.report import elements
from thaw.report.data import MAX_CLASSES_LISTED, MAX_GROUP_IDS, MAX_GROUPS_LISTED, describe_photographs, list_origins
from thaw.report.multi_label.results import MultiResults


def write_data(results: MultiResults) -> Markup:
    """Count the known pairs, describe the photographs, and list groups whose labels contradict each other."""
    return Markup("\n").join(filter(None, [_counts(results), describe_photographs(results), _disputed(results)]))


def _counts(results: MultiResults) -> Markup:
    """Count the known pairs of each class in each split."""
    splits = results.measured.metrics["pairs"]
    photographs = {split: sum(counts) for split, counts in results.health.counts.items()}
    classes = list(results.classes)
    if len(classes) > MAX_CLASSES_LISTED:
        classes.sort(key=lambda name: (sum(counts[name]["present"] for counts in splits.values()), name))
    rows = []
    for name in classes[:MAX_CLASSES_LISTED]:
        counts = [(by_class[name]["present"], by_class[name]["absent"]) for by_class in splits.values()]
        rows.append(_counts_row(elements.isolated(name), counts))
    totals = [
        tuple(sum(counts[key] for counts in by_class.values()) for key in ("present", "absent"))
        for by_class in splits.values()
    ]
    rows.append(_counts_row("all", totals))
    names = [f"{split}: {photographs[split]:,}" for split in splits]
    table = elements.table(
        "wide", [elements.header("Photographs", [*names, f"all: {sum(photographs.values()):,}"])], rows
    )
    rest = elements.rest(len(classes), min(len(classes), MAX_CLASSES_LISTED), "classes, the rarest,", "labels.csv")
    note = "Known to be present / verified to be absent. Of all other pairs nothing is known; they count nowhere."
    return elements.figure("Known pairs of a photograph and a class", table + rest + elements.paragraph(note, "soft"))


def _counts_row(name: str, counts: list[tuple[int, int]]) -> Markup:
    total = tuple(map(sum, zip(*counts, strict=True)))
    return elements.row(name, [elements.cell(f"{present:,} / {absent:,}") for present, absent in (*counts, total)])


def _disputed(results: MultiResults) -> Markup:
    """List the groups in which one photograph is known to show a class, and another not to."""
    disputed = results.disputed_pairs
    if not disputed:
        return Markup()
    item = Markup("<li>{}: {}{}</li>")
    shown = disputed[:MAX_GROUPS_LISTED]
    items = (
        item.format(
            elements.isolated(name),
            Markup(", ").join(map(elements.isolated, ids[:MAX_GROUP_IDS])),
            " …" if len(ids) > MAX_GROUP_IDS else "",
        )
        for name, ids in shown
    )
    listing = Markup('<ul class="columns">{}</ul>').format(Markup().join(items))
    rest = elements.rest(len(disputed), len(shown), "groups", "labels.csv")
    caption = "Near-duplicates of which one shows a class and one does not"
    return elements.figure(caption, listing + rest)


def write_provenance(results: MultiResults) -> Markup:
    """Say how each number was measured, and from which files and parameters."""
    method = (
        "Unknown pairs count in no loss and in no number here. Intervals hold 95 %, and the photographs of a group "
        "count as one. Those of precision, recall and of the share that is called rightly are Wilson’s for "
        "a class or a slice. All others come from a seeded bootstrap that draws whole groups of photographs, with all "
        "their pairs: from the lower of two ends to the higher, of the percentiles and of those corrected for bias "
        "(Efron 1981). Those of the mean average precision take in a third, as wide as the percentiles, around the "
        "value less twice the bias that the resamples show. Those of the calibration error invert a test on it. "
    )
    if fewer := resamples_text(results.measured, results.parameters["evaluate"]["bootstrap"]):
        method += f"{fewer[0].upper()}{fewer[1:]}. "
    return list_origins(results, method)
