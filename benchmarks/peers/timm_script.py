"""The usual script with PyTorch and timm, as a peer for `race.py` and `league.py`: a head on a frozen network, then
fine-tuning.

    python timm_script.py FOLDER WEIGHTS --thaw-from 5 [--head-only] [--seed N] [--predictions FILE]

FOLDER holds train/ and validation/ with one folder for each class. WEIGHTS is a state dict of EfficientNet-Lite0 with
its tensors in the order of timm. The head trains for 20 epochs at a rate of 1e-3. Then the blocks from the given number
on train for 10 epochs at 1e-4. Both use Adam and batches of 32; batch normalisation stays in inference mode. Of each
part the epoch with the best validation accuracy is kept.

Prints a line for each epoch, and one line of JSON after each part: the seconds since the process started, and the best
validation accuracy. FILE gets a row for each photograph of validation/ and test/: its name and the predicted class.
Needs `torch`, `torchvision` and `timm`, which Thaw does not install.
"""

import copy
import os
from pathlib import Path

import peer  # isort: skip

import timm
import torch
from torchvision import datasets, transforms

BATCH = 32


def main() -> None:
    parser = peer.options(__doc__, "weights")
    parser.add_argument("--thaw-from", type=int, required=True)
    parser.add_argument("--head-only", action="store_true")
    parser.add_argument("--epochs", type=int, nargs=2, default=(20, 10), help="of the head, and of fine-tuning")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load(model, arguments.weights)
    square = [
        transforms.Resize((arguments.size, arguments.size)),
        transforms.ToTensor(),
        transforms.Normalize((127 / 255,) * 3, (128 / 255,) * 3),
    ]
    augmentation = [
        transforms.RandomHorizontalFlip(),
        transforms.RandomVerticalFlip(),
        transforms.RandomAffine(5, (0.03, 0.03), (0.95, 1.05)),
        transforms.ColorJitter(contrast=0.1),
    ]
    train = datasets.ImageFolder(arguments.folder / "train", transforms.Compose(augmentation + square))
    validation = datasets.ImageFolder(arguments.folder / "validation", transforms.Compose(square))
    model.classifier = torch.nn.Linear(model.classifier.in_features, len(train.classes))
    model.eval().requires_grad_(False)
    model.classifier.requires_grad_(True)
    loaders = [load_batches(part, part is train) for part in (train, validation)]
    head_epochs, epochs = arguments.epochs
    peer.report("head", fit("head", model, *loaders, 1e-3, head_epochs))
    if arguments.head_only:
        return
    for part in (*model.blocks[arguments.thaw_from :], model.conv_head):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.requires_grad_(True)
    peer.report("fine_tuned", fit("fine_tuned", model, *loaders, 1e-4, epochs))
    if arguments.predictions:
        test = datasets.ImageFolder(arguments.folder / "test", transforms.Compose(square))
        peer.write_predictions(arguments.predictions, predict(model, [validation, test]))


def load(model: torch.nn.Module, weights: Path) -> None:
    """Load weights by the order of their tensors, since the names of the two networks differ."""
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    own = model.state_dict()
    assert [t.shape for t in own.values()] == [t.shape for t in tensors.values()]
    model.load_state_dict(dict(zip(own, tensors.values(), strict=True)))


def load_batches(part, shuffle: bool):
    return torch.utils.data.DataLoader(
        part, BATCH, shuffle=shuffle, num_workers=os.cpu_count(), persistent_workers=True
    )


def fit(part: str, model: torch.nn.Module, train, validation, rate: float, epochs: int) -> float:
    """Train what requires gradients; the model has the weights of the best epoch. Returns its validation accuracy."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    best, weights = -1.0, None
    for epoch in range(1, epochs + 1):
        total = 0.0
        for x, y in train:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        with torch.inference_mode():
            correct = sum(int((model(x).argmax(1) == y).sum()) for x, y in validation)
        accuracy = correct / len(validation.dataset)
        print(f"{part}, epoch {epoch}: loss {total / len(train.dataset):.4f}, val_accuracy {accuracy:.4f}", flush=True)
        if accuracy > best:
            best, weights = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return best


@torch.inference_mode()
def predict(model: torch.nn.Module, parts: list) -> list[tuple[str, str]]:
    predictions = []
    for part in parts:
        indices = [int(index) for x, _ in load_batches(part, shuffle=False) for index in model(x).argmax(1)]
        predictions += zip((image for image, _ in part.samples), (part.classes[i] for i in indices), strict=True)
    return predictions


if __name__ == "__main__":
    main()
