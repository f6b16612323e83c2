"""What the finished model predicts for photographs, as `src/predict.py` prints it."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from thaw.core.store import Photograph
from thaw.engines import flips, inference
from thaw.prediction import deployed_model, stream

Predicted = tuple[str, float] | tuple[None, None]


def predict(
    paths: Sequence[Photograph], model: Path, cache: Path, classes: Collection[str], bits: int | None
) -> list[Predicted]:
    """Return the label and its calibrated probability for each photograph.

    An extended model may predict a class that is no label: then there is none.

    Args:
        paths: photographs that can be read.
        model: a `.keras` file, with `decision.json` beside it.
        cache: the folder of converted models.
        classes: the labels that there are.
        bits: of values in 16 bits, where a file does not say it.
    """
    description = deployed_model.read_description(model)
    decision = deployed_model.read_decision(model, description.classes) or deployed_model.Decision()
    network = deployed_model.converted_network(model, cache)
    engine = inference.compile_openvino(network, deployed_model.OUTPUT, description.size, np.float32)
    images = stream.load_images(paths, description.size, description.resize, bits)
    predicted = []
    for prediction in stream.predict(images, flips.average_flips(engine, decision.test_time_flips)):
        calibrated = decision.calibrate(prediction.probabilities[None])
        best = int(decision.predict(calibrated)[0])
        label, probability = description.classes[best], round(float(calibrated[0, best]), 6)
        predicted.append((label, probability) if label in classes else (None, None))
    return predicted
