"""The metadata in an export: how to make its input, what its outputs mean, and which decision rule was chosen."""

import json

from thaw.prediction import several_labels
from thaw.prediction.deployed_model import Decision, Description

LABELS_FILE = "labels.txt"
SET_LEVELS = (0.9, 0.95, 0.99)  # decision.json has more
RESIZED = {
    "crop": "scaled by area (linearly where it grows) until the short side fits, then the middle square of it",
    "pad": "scaled by area (linearly where it grows) until the long side fits, in the middle of a black square",
    "squash": "both sides scaled by area (linearly where one grows)",
}


def describe(description: Description, decision: Decision | None) -> dict[str, object]:
    """Return the metadata of an export: class names, image size and resizing, decision rule, and how to use them."""
    first, *others = description.classes
    use, chosen = "", {}
    if decision is not None:
        chosen = {"temperature": decision.temperature, "threshold": decision.threshold}
        if decision.test_time_flips:
            chosen["test_time_flips"] = decision.test_time_flips
            use = "; p is the mean of those of a photograph and of its mirror images"
        use += "; p^(1 / temperature), scaled to sum to 1, are the calibrated ones"
        if decision.threshold is not None:
            use += f", and {others[0]!r} is predicted where its own lies above threshold, else {first!r}"
        if decision.sets:
            chosen["sets"] = {f"{k:g}": list(limits) for k, limits in decision.sets.items() if k in SET_LEVELS}
            use += (
                "; sets: of each level, the classes whose calibrated probability is at least theirs, with the "
                "predicted class, hold the truth with that probability"
            )
    return _description(description, use) | chosen


def describe_several(description: Description, decision: several_labels.Decision | None) -> dict[str, object]:
    """Return the same for a model with several labels for each image: temperatures and thresholds are lists."""
    use, chosen = "; each class by itself: an image may show several, or none", {}
    if decision is not None:
        chosen = {"temperatures": list(decision.temperatures), "thresholds": list(decision.thresholds)}
        if decision.test_time_flips:
            chosen["test_time_flips"] = decision.test_time_flips
            use += "; p is the mean of those of a photograph and of its mirror images"
        use += (
            "; sigmoid(log(p / (1 - p)) / its temperature) is the calibrated one, and the class is there where that "
            "lies above its threshold; temperatures and thresholds are in the order of class_names"
        )
    return _description(description, use) | {"task": description.task} | chosen


def _description(description: Description, use: str) -> dict[str, object]:
    """Return what is said of every model. use: of its output."""
    size = description.size
    return {
        "class_names": list(description.classes),
        "image": {"size": size, "resize": description.resize},
        "input": f"image: float32, {size} x {size} pixels of RGB, 0 to 255, of an upright photograph, "
        "transparent pixels blended with white, more than 8 bits scaled to 8, " + RESIZED[description.resize],
        "output": f"probabilities: float32, in the order of class_names{use}",
    }


def as_text(metadata: dict[str, object]) -> dict[str, str]:
    """Return metadata with text as values, for a format that has only text: other values become JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }


def label_lines(metadata: dict[str, object]) -> str:
    """Return the content of LABELS_FILE: the class names, one a line."""
    return "".join(f"{name}\n" for name in metadata["class_names"])
