"""What of `reports/metrics.json` is read after a run."""

from collections.abc import Mapping

FINE_TUNED, HEAD = "fine_tuned", "head"
MODELS = {HEAD: "head", FINE_TUNED: "fine-tuned model"}  # that are measured: name in files → name in text


def saved_model(metrics: Mapping[str, Mapping]) -> str:
    """Return which model a run has saved, by its content of metrics.json.

    It is the fine-tuned model, or the head where folds say that fine-tuning did not help.
    """
    return metrics.get("folds", {}).get("kept", FINE_TUNED)
