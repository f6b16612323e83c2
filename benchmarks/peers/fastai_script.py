"""The script that fastai teaches, as a peer for `league.py`: `vision_learner` and `fine_tune`.

    python fastai_script.py FOLDER WEIGHTS [--seed N] [--epochs N] [--predictions FILE]

FOLDER holds train/, validation/ and test/ with one folder for each class. WEIGHTS is a state dict of EfficientNet-Lite0
with its tensors in the order of timm. All is fastai's default: `Resize`, `aug_transforms`, one epoch of the head and
then 10 of the whole network, at the rates of `fine_tune`. The epoch with the best validation accuracy is kept.

Prints one line of JSON: the seconds since the process started, and the best validation accuracy. FILE gets a row for
each photograph of validation/ and test/: its name and the predicted class. Needs `fastai` and `timm`.
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path

START = time.perf_counter()

import torch  # noqa: E402
from fastai.vision import all as fastai  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--predictions", type=Path)
    arguments = parser.parse_args()
    fastai.set_seed(arguments.seed, reproducible=True)
    scale = fastai.Normalize.from_stats((127 / 255,) * 3, (128 / 255,) * 3, cuda=False)
    batches = fastai.ImageDataLoaders.from_folder(
        arguments.folder, train="train", valid="validation", seed=arguments.seed,
        item_tfms=fastai.Resize(arguments.size), batch_tfms=[*fastai.aug_transforms(), scale], device="cpu",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        learner = fastai.vision_learner(
            batches, "tf_efficientnet_lite0", pretrained=False, normalize=False, metrics=fastai.accuracy, path=scratch
        )
        load(learner.model[0].model, arguments.weights)
        learner.remove_cb(fastai.ProgressCallback)
        best = fastai.SaveModelCallback("accuracy")
        with learner.added_cbs(best):
            learner.fine_tune(arguments.epochs)
    report = {"part": "fine_tuned", "seconds": time.perf_counter() - START, "accuracy": float(best.best)}
    print(json.dumps(report), flush=True)
    if arguments.predictions:
        write_predictions(learner, arguments.folder, arguments.predictions)


def load(network: torch.nn.Module, weights: Path) -> None:
    """Load weights by the order of their tensors: the names differ, and the network has no last layer."""
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    own = network.state_dict()
    pairs = list(zip(own, tensors.values(), strict=False))
    assert all(own[name].shape == tensor.shape for name, tensor in pairs)
    network.load_state_dict(dict(pairs))


def write_predictions(learner, folder: Path, path: Path) -> None:
    images = [image for part in ("validation", "test") for image in fastai.get_image_files(folder / part)]
    probabilities, _ = learner.get_preds(dl=learner.dls.test_dl(images))
    with path.open("w", encoding="utf-8", newline="") as file:
        for image, index in zip(images, probabilities.argmax(1), strict=True):
            csv.writer(file).writerow((image.name, learner.dls.vocab[index]))


if __name__ == "__main__":
    main()
