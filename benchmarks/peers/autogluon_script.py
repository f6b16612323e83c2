"""AutoGluon's `MultiModalPredictor`, as a peer for `league.py`.

    python autogluon_script.py FOLDER WEIGHTS [--seed N] [--epochs N] [--predictions FILE]

FOLDER holds train/, validation/ and test/ with one folder for each class. WEIGHTS is a state dict of EfficientNet-Lite0
with its tensors in the order of timm. AutoGluon takes its weights from a hub; here it gets a folder with the same
weights as the other contenders, in timm's layout, so nothing is downloaded. It trains the whole network for 10 epochs
(its default is 20); all else is its default.

Prints one line of JSON: the seconds since the process started, and the validation accuracy. FILE gets a row for each
photograph of validation/ and test/: its name and the predicted class. Needs `autogluon.multimodal`.
"""

import json
import tempfile
from pathlib import Path

import peer  # isort: skip

import pandas
import timm
import torch
from autogluon.multimodal import MultiModalPredictor

NETWORK = "tf_efficientnet_lite0"


def main() -> None:
    parser = peer.options(__doc__, "weights")
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    train, validation, test = (read(arguments.folder / part) for part in ("train", "validation", "test"))
    with tempfile.TemporaryDirectory() as scratch:
        network = Path(scratch) / "network"
        write_network(arguments.weights, arguments.size, network)
        predictor = MultiModalPredictor(label="label", problem_type="multiclass", path=f"{scratch}/model", verbosity=1)
        predictor.fit(
            train, tuning_data=validation, seed=arguments.seed,
            hyperparameters={
                "model.names": ["timm_image"],
                "model.timm_image.checkpoint_name": str(network),
                "model.timm_image.image_size": arguments.size,
                "optim.max_epochs": arguments.epochs,
                "env.num_gpus": 0,
            },
        )  # fmt: skip
        correct = predictor.predict(validation) == validation["label"]
        peer.report("fine_tuned", float(correct.mean()))
        if arguments.predictions:
            both = pandas.concat([validation, test], ignore_index=True)
            peer.write_predictions(arguments.predictions, zip(both["image"], predictor.predict(both), strict=True))


def read(folder: Path) -> pandas.DataFrame:
    images = sorted(path for path in folder.glob("*/*") if path.is_file())
    return pandas.DataFrame({"image": [str(path) for path in images], "label": [path.parent.name for path in images]})


def write_network(weights: Path, size: int, folder: Path) -> None:
    """Write the weights as the folder that AutoGluon reads instead of a hub: the last layer is left out."""
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    network = timm.create_model(NETWORK, pretrained=False, num_classes=0)
    pairs = list(zip(network.state_dict(), tensors.values(), strict=False))
    assert all(network.state_dict()[name].shape == tensor.shape for name, tensor in pairs)
    folder.mkdir()
    torch.save(dict(pairs), folder / "pytorch_model.bin")
    scale = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}
    config = {"architecture": NETWORK, "num_features": network.num_features, "input_size": [3, size, size], **scale}
    (folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
