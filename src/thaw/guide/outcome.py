"""What a person reads after a run: the result, where the report is, and what to do next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.core.metrics_file import MEASURE_NAMES, WEIGHTED, main_measure

BRANCH = (
    "git: params.yaml, dvc.lock and reports/ now hold the run on these photographs; `git switch -c NAME` before you "
    "commit them keeps the last commit's run on its branch"
)
NEXT = (
    "next: docs/guides/read-the-report.md explains it, `.venv/bin/python src/predict.py PHOTOGRAPH…` uses the model, "
    "`make compare` compares runs"
)


def last_line(
    scores: Mapping[str, float | None],
    count: int,
    report: Path,
    folds: bool = False,
    threshold: Mapping[str, Any] | None = None,
) -> str:
    """Return the line.

    Args:
        scores: of the model on the test split, as metrics.json has them.
        count: of the photographs in the test split.
        report: its absolute path.
        folds: whether each was tested by a model of the others.
        threshold: of two classes, by which the saved model predicts, as metrics.json has it; None if the likeliest
            class is predicted.
    """
    measure = main_measure(scores)
    accuracy, low, high = (scores[f"{measure}{end}"] for end in ("", "_low", "_high"))
    tested = f"{count:,} test photographs"
    if folds:
        tested = f"{count:,} photographs, each tested by a model that had not seen it"
    if accuracy is None:
        result = f"nothing can be said of the {tested}"
    elif measure != WEIGHTED:
        pairs = f"{scores['known_present']:,} classes present and {scores['known_absent']:,} absent"
        result = f"the {MEASURE_NAMES[measure]} on {tested} ({pairs}) is {_percent(accuracy)}"
    else:
        weighted = "" if accuracy == scores["accuracy"] else ", by weight,"
        result = f"{_percent(accuracy)} of the {tested}{weighted or ',' * folds} are right"
    if low is not None and high is not None:
        result += f" (95% interval {low:.1%} to {high:.1%})"
    if threshold:
        precision, recall = (threshold["test"][name] for name in ("precision", "recall"))
        result += (
            f", if the likeliest class is predicted; predict.py predicts by a threshold, {threshold['threshold']:.3g}, "
            f"with a precision of {_percent(precision)} and a recall of {_percent(recall)} there"
        )
    return f"result: {result}; open {report}; {NEXT}"


def _percent(share: float | None) -> str:
    """Return a share with one decimal; only 1 is `100.0%`."""
    if share is None:
        return "-"
    return "99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"
