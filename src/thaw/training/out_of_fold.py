"""The rounds of folds together: their mean scores, and the predictions of models for images that they have not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from thaw.features.examples import Examples, losses, weighted_scores
from thaw.features.paired import Change, paired_change
from thaw.training.temperature import apply_temperature, fit_temperature

# Standard errors by which the loss must fall. With one, 18 to 23 % of models that are no better would count as better,
# with two 4 to 8 %: `benchmarks/coverage.py --pairs`.
SURE = 2


def mean_scores(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means of the scores that all rounds have."""
    names = [name for name in rounds[0] if all(name in scores for scores in rounds)]
    return {name: mean(scores[name] for scores in rounds) for name in names}


def calibrated(part: Examples, predict: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the (n, classes) float64 probabilities of the images of test, calibrated on validation.

    part: The images, with the splits of the round in which the model was trained. predict: From row numbers (n,) to
    the probabilities (n, classes) of the model, as trained.
    """
    validation, test = part.split("validation"), part.split("test")
    probabilities = predict(validation.rows).astype(np.float64)
    temperature = fit_temperature(probabilities, validation.labels, validation.weights)
    return apply_temperature(predict(test.rows).astype(np.float64), temperature)


@dataclass(frozen=True)
class Verdict:
    """Whether fine-tuning helped, on images that no compared model had seen."""

    change: Change  # of the calibrated loss, from the head to the fine-tuned model
    accuracies: tuple[float, float]  # weighted, of the head and of the fine-tuned model

    @property
    def helped(self) -> bool:
        """Whether the loss fell by more than SURE standard errors, and the accuracy did not fall."""
        head, fine_tuned = self.accuracies
        error = self.change.standard_error
        return error is not None and self.change.loss < -SURE * error and fine_tuned >= head

    @property
    def text(self) -> str:
        """For the terminal."""
        head, fine_tuned = self.accuracies
        error = "unknown" if self.change.standard_error is None else f"{self.change.standard_error:.3f}"
        loss = f"loss {self.change.loss:+.3f}, standard error {error}"
        return f"{fine_tuned:.1%} right against {head:.1%} by the head, {loss}"


def judge(fine_tuned: np.ndarray, head: np.ndarray, images: Examples) -> Verdict:
    """Compare two models by their (n, classes) calibrated probabilities for images that they have not seen."""
    accuracies = (weighted_scores(predicted, images)[1] for predicted in (head, fine_tuned))
    return Verdict(paired_change(losses(fine_tuned, images), losses(head, images), images), tuple(accuracies))
