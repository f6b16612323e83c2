"""What the terminal says of a comparison."""

from thaw.core.encodings import shown
from thaw.drift.comparison import Change, Drift
from thaw.drift.two_sample import LEVEL

UNITS = {"brightness": "{:.2f}", "sharpness": "{:.2f}", "side": "{:.0f} pixels"}
NAMES = {"brightness": "brightness", "sharpness": "sharpness", "side": "shorter side"}
MAX_CLASSES = 6  # that a line names


def write_lines(drift: Drift) -> list[str]:
    """Return the lines, most important first."""
    test, far, accuracy = drift.test, drift.far, drift.accuracy
    verdict = "they differ from" if test.differ else "no difference was found from"
    if test.is_too_small:
        verdict = "too few, with near-duplicates counted once, to tell whether they differ from"
    lines = [
        f"{len(drift.new):,} new photographs: {verdict} the {len(drift.held_out):,} held-out ones (AUC {test.auc:.3f}, "
        f"p {p_text(test.p)}; by chance, AUC is above {test.chance:.3f} in {LEVEL:.0%} of cases)",
        f"far from the training photographs: {far.share:.1%} (expected: {far.expected:.1%})",
        *(f"{NAMES[name]}: {change_text(name, change)}" for name, change in drift.changes.items()),
        *([f"predictions: {_predictions(drift)}"] if drift.predictions else []),
    ]
    if accuracy is None:
        lines.append(f"accuracy to expect: not known, since {drift.no_accuracy}")
    else:
        lines.append(
            f"accuracy to expect: {accuracy.mean:.1%} by mean probability, {accuracy.threshold:.1%} by thresholded "
            f"confidence; measured on the held-out ones: {accuracy.measured:.1%}"
        )
    if accuracy is not None and test.differ:
        lines.append("the photographs differ, so these estimates may be far off: label some of them")
    return lines + left_out_lines(drift)


def p_text(p: float) -> str:
    """Return `0.001` for the smallest p that can be, with its sign, else `= 0.23`."""
    return "<= 0.001" if p <= 0.001 else f"= {p:.2g}"


def change_text(name: str, change: Change) -> str:
    """Return a measure as `median 0.31, held out 0.42; 38 % unusual`."""
    new, held_out = (UNITS[name].format(values[1]) for values in (change.new, change.held_out))
    return f"median {new}, held out {held_out}; {change.unusual:.0%} unusual (expected: 5%)"


def left_out_lines(drift: Drift) -> list[str]:
    """Return what was not compared, a line each."""
    left_out, lines = drift.left_out, []
    if known := sum(left_out.known.values()):
        splits = ", ".join(f"{count:,} of {split}" for split, count in sorted(left_out.known.items()))
        lines.append(f"left out: {known:,} photographs of this run ({splits})")
    if left_out.unread:
        first = left_out.unread[0]
        lines.append(
            f"left out: {len(left_out.unread):,} files that cannot be read (the first: {shown(first.path)}: "
            f"{shown(str(first.error))})"
        )
    if left_out.others:
        lines.append(f"left out: {len(left_out.others):,} files that are no pictures, or leftovers of programs")
    if len(drift.compared) < len(drift.new):
        lines.append(f"the classifier compared {len(drift.compared):,} of the new photographs, drawn at random")
    return lines


def _predictions(drift: Drift) -> str:
    ranked = sorted(drift.predictions.items(), key=lambda item: -item[1][1])
    parts = [
        f"{shown(name)} {new:.0%}" + ("" if known is None else f" (held out {known:.0%})")
        for name, (known, new) in ranked[:MAX_CLASSES]
    ]
    return ", ".join(parts) + (f", {len(ranked) - MAX_CLASSES:,} more classes" if len(ranked) > MAX_CLASSES else "")
