"""What is chosen on validation once a model is trained: a temperature for its probabilities, a threshold for yes.

First the temperature, then the threshold on the probabilities that it gives.

The parameter `evaluate.threshold` takes a number above 0 and below 1, `best_f1`, `precision:0.95` or `recall:0.95`
(a text, since `dvc exp run -S evaluate.threshold=precision:0.95` needs no quotes then and replaces what stood there;
a mapping would be merged into the one before). In thaw.params, which must not import this module:

    Aim = Annotated[str, Field(pattern=r"^(best_f1|(precision|recall):(0?\\.\\d*[1-9]\\d*|1(\\.0*)?))$")]
    threshold: Share | Aim
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COOLEST, HOTTEST = 0.1, 10.0  # bounds of the temperature


def fit_temperature(
    probabilities: NDArray[np.float64], labels: NDArray[np.integer], weights: NDArray[np.floating]
) -> float:
    """Return the temperature T that gives `apply_temperature` the lowest weighted log loss (Guo et al. 2017).

    probabilities (n, c), labels (n,), weights (n,), of the validation split alone. Above 1 where the model is too sure
    of itself. The loss is never above that at 1. 1 where the images cannot say: there are none, none has a weight, or
    the loss falls for ever as T does (every label has the highest probability) or stays the same. COOLEST … HOTTEST.
    """
    raise NotImplementedError


def apply_temperature(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return softmax(log(probabilities) / temperature), (n, c) float64; the most probable class stays the same.

    Probabilities are clipped at the machine's epsilon, as they are for the log loss.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class Threshold:
    """Class 1 is predicted where its probability lies above `value`; the rest was measured where it was chosen."""

    value: float
    aim: float | str  # as in params.yaml
    reached: bool  # whether a wanted precision or recall was
    precision: float | None  # weighted; None where nothing is predicted, or no image is of class 1
    recall: float | None
    f1: float | None


def choose_threshold(
    positive: NDArray[np.float64], labels: NDArray[np.integer], weights: NDArray[np.floating], aim: float | str
) -> Threshold:
    """Return the threshold on the probability of class 1 (of two) that fits the aim best on the validation split.

    positive (n,), labels (n,) of 0 and 1, weights (n,). Thresholds lie midway between probabilities that occur.

    - a number: itself. 0.5 predicts what is most probable.
    - `best_f1`: the highest F1.
    - `precision:0.95`: the highest recall among the thresholds of at least that precision.
    - `recall:0.95`: the highest precision among the thresholds of at least that recall.

    Of equally good ones that nearest to 0.5. An aim that no threshold reaches is not an error, for a pipeline should
    not end at its last stage: `reached` is False, and the threshold is the one that comes nearest to it. Without an
    image of either class, `value` is 0.5 and `reached` is False. Raises ThawError for an aim of another form.
    """
    raise NotImplementedError
