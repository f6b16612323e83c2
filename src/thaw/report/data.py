"""The sections on the data, and on where every number comes from."""

import json
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from thaw.core.params import flatten
from thaw.core.words import plural
from thaw.evaluation.measure import resamples_text
from thaw.report import elements
from thaw.report.results import Results, RunFacts

MAX_CLASSES_LISTED = 20
MAX_GROUPS_LISTED = 10
MAX_GROUP_IDS = 6  # of one group
MAX_REASONS_LISTED = 8


def write_data(results: Results) -> Markup:
    """Count the photographs, list what may be wrong with them, and show them as augmented."""
    weights = Markup()
    if results.weighted and len(results.classes) <= MAX_CLASSES_LISTED:
        rows = [_counts_row(weight, counts) for weight, counts in results.health.weights if sum(counts)]
        names = [*map(elements.isolated, results.classes), "all"]
        table = elements.table("wide", [elements.header("Weight", names)], rows)
        weights = elements.figure("Weights of the labels", table)
    return Markup("\n").join([_counts(results), describe_photographs(results, weights)])


def describe_photographs(results: RunFacts, weights: Markup = Markup()) -> Markup:  # noqa: B008 - it is immutable
    """Describe the photographs of a run, list what may be wrong with them, and show them as augmented.

    weights: a figure of the weights of their labels, or nothing.
    """
    health = results.health
    parts = [elements.description_list(_properties(results)), weights, _duplicates(results)]
    if health.missing:
        rows = [
            elements.row(elements.isolated(reason), [elements.cell(f"{n:,}")])
            for reason, n in health.missing[:MAX_REASONS_LISTED]
        ]
        table = elements.table("wide", [elements.header("Reason", ["Photographs"])], rows)
        rest = elements.rest(len(health.missing), len(rows), "reasons", "missing.csv")
        parts.append(elements.figure("Left out", table + rest))
    squares = "" if results.parameters["image"]["resize"] == "crop" else " (their middle squares)"
    parts.append(_wide_picture(f"Training photographs, plain and as augmented{squares}", results.augmentations))
    parts += [elements.paragraph(text, "soft") for text in (_preset(results), _resize(results)) if text]
    return Markup("\n").join(filter(None, parts))


def _wide_picture(caption: str, jpeg: bytes) -> Markup:
    picture = elements.picture(jpeg, caption, 924)
    return elements.figure(caption, Markup('<div class="wide-picture">{}</div>').format(picture))


def _duplicates(results: RunFacts) -> Markup:
    """Count and show the groups of near-duplicates; nothing where there is none."""
    health, duplicates = results.health, results.duplicates
    if not health.groups and not duplicates.left_out:
        return Markup()
    photographs, groups = plural(health.grouped, "photograph"), plural(health.groups, "group")
    text = (
        f"{photographs} share a group with another: they are near-duplicates, or the source names the group. There "
        f"{'is' if health.groups == 1 else 'are'} {groups}, the largest of {health.largest_group:,}."
    )
    if health.across_splits:
        text += (
            f" {plural(health.across_splits, 'photograph')} are of groups in several splits, since the split "
            "that was given, or their time, has them so: on these, test is easier than new photographs will be."
        )
    else:
        text += f" No group stands in two {'splits' if 'test' in health.counts else 'folds'}."
    if duplicates.left_out:
        text += (
            f" {plural(duplicates.left_out, 'photograph')} were left out of training: others of their group "
            "are in a split for validation or test that was given with the photographs, or are newer than split.after. "
            "They are not counted here."
        )
    parts = [
        Markup('<h3 id="duplicates">Near-duplicates</h3>'),
        elements.paragraph(Markup("{} All are listed in <code>duplicates.csv</code>.").format(text)),
    ]
    if duplicates.sheet is not None:
        parts.append(_wide_picture("The largest groups", duplicates.sheet))
    if health.disputed:
        shown = health.disputed[:MAX_GROUPS_LISTED]
        items = (
            Markup("<li>{}{}</li>").format(
                Markup(", ").join(map(elements.isolated, ids[:MAX_GROUP_IDS])),
                " …" if len(ids) > MAX_GROUP_IDS else "",
            )
            for ids in shown
        )
        listing = Markup('<ul class="columns">{}</ul>').format(Markup().join(items))
        rest = elements.rest(len(health.disputed), len(shown), "groups", "duplicates.csv")
        caption = f"{plural(len(health.disputed), 'group')} of near-duplicates with different labels"
        doubt = elements.paragraph("One of the labels may be wrong.", "soft")
        parts.append(elements.figure(caption, listing + rest + doubt))
    return Markup("\n").join(parts)


def _preset(results: RunFacts) -> str:
    """Say which preset of augmentation was taken, and why."""
    preset = results.preset
    if preset.name is None:
        return "No augmented copies were drawn."
    if preset.compared is None:
        return f"The preset {preset.name}, as set in the parameters: nothing was compared."
    if not preset.compared:
        return f"The preset {preset.name}, the gentlest: no heads of augmented photographs were trained to compare."
    reasons = ", ".join(
        f"{name} against {c['against']}: {_loss_change(c['validation_loss_change'], c['standard_error'])}"
        for name, c in preset.compared.items()
    )
    return (
        f"The preset {preset.name} was chosen by the head on validation: {reasons}. The gentler one is kept unless the "
        "other lowers the loss by more than a standard error."
    )


def _resize(results: RunFacts) -> str:
    """Say how photographs were made square, and why; empty where the parameters say it."""
    choice = results.resize
    if choice is None:
        return ""
    if choice["change"] is None:
        return f"Photographs are made square by {choice['resize']}: {choice['reason']}."
    return (
        f"Photographs are made square by {choice['resize']}, as a linear head on validation chose: squash against "
        f"crop, {_loss_change(choice['change'], choice['standard_error'])}. Crop is kept unless squash lowers the loss "
        "by more than a standard error."
    )


def _loss_change(change: float, standard_error: float | None) -> str:
    error = "unknown" if standard_error is None else elements.number(standard_error)
    return f"validation loss {elements.signed(change)} (standard error {error})"


def _counts(results: Results) -> Markup:
    counts = results.health.counts
    classes = list(zip(results.classes, zip(*counts.values(), strict=True), strict=True))
    listed = classes
    if len(classes) > MAX_CLASSES_LISTED:
        listed = sorted(classes, key=lambda item: sum(item[1]))[:MAX_CLASSES_LISTED]
    rows = [_counts_row(elements.isolated(name), class_counts) for name, class_counts in listed]
    rows.append(_counts_row("all", [sum(split_counts) for split_counts in counts.values()]))
    table = elements.table("wide", [elements.header("Photographs", [*counts, "all"])], rows)
    return table + elements.rest(len(classes), len(listed), "classes, the smallest,", "split.csv")


def _counts_row(name: str, counts: Sequence[int]) -> Markup:
    return elements.row(name, [elements.cell(f"{n:,}") for n in (*counts, sum(counts))])


def _properties(results: RunFacts) -> Iterator[tuple[str, str]]:
    """Yield the name of each property of the data, and its description."""
    health = results.health
    image, (low, median, high) = results.parameters["image"], health.shorter_side
    is_alike, enlarged = health.distinct_sizes == 1, ""
    if image["size"] > median and image["resize"] != "pad":  # which scales by the longer side
        times = f"{'' if is_alike else 'half of them '}enlarged {image['size'] / median:.1f} times"
        enlarged = f"; for the network, of {image['size']} pixels, {times}{'' if is_alike else ' or more'}"
    if is_alike:
        yield "Size", f"all {health.sizes[0][0]} pixels{enlarged}"
    else:
        sizes = ", ".join(f"{size} ({count:,})" for size, count in health.sizes)
        others = health.distinct_sizes - len(health.sizes)
        more = f" and {others:,} more" if others else ""
        sides = f"shorter side {low:,} to {high:,} pixels, median {median:,}"
        yield "Sizes", f"{sides}; the commonest: {sizes}{more}{enlarged}"
    if not health.groups and not results.duplicates.left_out:
        yield "Near-duplicates", "none were found" if results.duplicates.looked_for else "none were looked for"
    if not health.missing:
        yield (
            "Left out",
            "no photograph, but for those of groups that are held out"
            if results.duplicates.left_out
            else "no photograph",
        )
    if not results.weighted:
        yield "Weights", "every label counts the same"


def write_provenance(results: Results) -> Markup:
    """Say how each number was measured, and from which files and parameters."""
    method = (
        "Intervals hold 95 %, and a group of near-duplicates counts as one photograph. Those of accuracy, recall, "
        "precision and coverage are Wilson’s; so is that of the weighted accuracy where all labels weigh the same, or "
        "where few photographs are right, or wrong. All others are percentiles of a bootstrap that draws whole groups, "
        "seeded; that of the calibration error inverts a test on it. "
    )
    if len(results.classes) > 2:
        method += "For macro F1 and PR AUC the resamples are shifted, since they are biased. "
    if fewer := resamples_text(results.measured, results.parameters["evaluate"]["bootstrap"]):
        method += f"{fewer[0].upper()}{fewer[1:]}. "
    if "test" not in results.health.counts:  # with folds
        method += (
            "Each photograph is predicted by a model that has not seen its fold. All predictions are counted together, "
            "as if one model had given them (Bayle et al. 2020, arXiv 2007.12671): the intervals are for the mean of "
            "these models. The model that is saved is trained on more photographs, and is not measured itself. "
        )
    return list_origins(results, method)


def list_origins(results: RunFacts, method: str) -> Markup:
    """List the files, libraries and parameters that a report comes from, after `method`, how numbers were measured."""
    method += (
        "The same inputs and parameters give this file to the byte, with these libraries and kernels, on every "
        "processor that has them."
    )
    note = Markup(
        "MD5 as DVC has it: the same hashes stand in <code>dvc.lock</code>, there with the parameters of every stage "
        "before; <code>images.csv</code> holds the SHA-256 of each photograph."
    )
    inputs = elements.table("wide pairs", [], [_pair(path, md5) for path, md5 in results.inputs.items()])
    libraries = elements.table("wide pairs", [], [_pair(*pair) for pair in computed_with(results)])
    pairs = flatten_parameters(results.parameters)
    parameters = elements.table("wide pairs", [], [_pair(key, value) for key, value in pairs])
    source = [(name, results.source[key]) for name, key in (("Licence", "license"), ("Citation", "citation"))]
    return Markup("\n").join(
        [
            elements.paragraph(method),
            elements.figure("What was read", inputs + elements.paragraph(note, "soft")),
            elements.figure("What measured and wrote this", libraries),
            elements.figure("Parameters", parameters),
            elements.description_list((name, elements.isolated(text)) for name, text in source if text),
        ]
    )


def computed_with(results: RunFacts) -> Iterator[tuple[str, str]]:
    """Yield the kernels, and each library with its version."""
    yield "kernels", results.computed_with["kernels"]
    yield from results.computed_with["libraries"].items()


def _pair(key: str, value: str) -> Markup:
    row = Markup('<tr><th scope="row"><code>{}</code></th><td class="text"><code>{}</code></td></tr>')
    return row.format(key, elements.isolated(value))


def flatten_parameters(parameters: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the dotted key of each parameter, and its value as params.yaml has it."""
    for key, value in flatten(parameters):
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
