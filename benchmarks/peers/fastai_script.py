"""The script that fastai teaches, as a peer for `league.py`: `vision_learner` and `fine_tune`.

    python fastai_script.py FOLDER WEIGHTS [--seed N] [--epochs N] [--predictions FILE]

FOLDER holds train/, validation/ and test/ with one folder for each class. WEIGHTS is a state dict of EfficientNet-Lite0
with its tensors in the order of timm. All is fastai's default: `Resize`, `aug_transforms`, one epoch of the head and
then 10 of the whole network, at the rates of `fine_tune`. The epoch with the best validation accuracy is kept.

Prints one line of JSON: the seconds since the process started, and the best validation accuracy. FILE gets a row for
each photograph of validation/ and test/: its name and the predicted class. Needs `fastai` and `timm`.
"""

import tempfile
from pathlib import Path

import peer  # isort: skip

import torch
from fastai.vision import all as fastai


def main() -> None:
    parser = peer.options(__doc__, "weights")
    parser.add_argument("--epochs", type=int, default=10)
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
    peer.report("fine_tuned", float(best.best))
    if arguments.predictions:
        peer.write_predictions(arguments.predictions, predict(learner, arguments.folder))


def load(network: torch.nn.Module, weights: Path) -> None:
    """Load weights by the order of their tensors: the names differ, and the network has no last layer."""
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    own = network.state_dict()
    pairs = list(zip(own, tensors.values(), strict=False))
    assert all(own[name].shape == tensor.shape for name, tensor in pairs)
    network.load_state_dict(dict(pairs))


def predict(learner, folder: Path) -> list[tuple[Path, str]]:
    images = [image for part in ("validation", "test") for image in fastai.get_image_files(folder / part)]
    probabilities, _ = learner.get_preds(dl=learner.dls.test_dl(images))
    return list(zip(images, (learner.dls.vocab[index] for index in probabilities.argmax(1)), strict=True))


if __name__ == "__main__":
    main()
