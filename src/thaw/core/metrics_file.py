"""What of `reports/metrics.json` is read after a run."""

from collections.abc import Mapping

FINE_TUNED, HEAD = "fine_tuned", "head"
WEIGHTED, MEAN_AVERAGE_PRECISION = "accuracy_weighted", "mean_average_precision"
MEASURE_NAMES = {  # the main metric of one label a photograph, and of several: key → name in text
    WEIGHTED: "weighted accuracy",
    MEAN_AVERAGE_PRECISION: "mean average precision",
}
MODELS = {HEAD: "head", FINE_TUNED: "fine-tuned model"}  # that are measured: name in files → name in text


def saved_model(metrics: Mapping[str, Mapping]) -> str:
    """Return which model a run has saved, by its content of metrics.json.

    It is the fine-tuned model, or the head where folds say that fine-tuning did not help.
    """
    return metrics.get("folds", {}).get("kept", FINE_TUNED)


def main_measure(scores: Mapping[str, float | None]) -> str:
    """Return the key of the main metric, by the scores of a model on a split."""
    return MEAN_AVERAGE_PRECISION if MEAN_AVERAGE_PRECISION in scores else WEIGHTED
