"""The usual script with PyTorch and timm, as a peer for `race.py`: a head on a frozen network, then fine-tuning.

    python timm_script.py FOLDER WEIGHTS --thaw-from 5 [--head-only]

FOLDER holds train/ and validation/ with one folder for each class. WEIGHTS is a state dict of EfficientNet-Lite0 with
its tensors in the order of timm. The head trains for 20 epochs at a rate of 1e-3. Then the blocks from the given number
on train for 10 epochs at 1e-4. Both use Adam and batches of 32; batch normalisation stays in inference mode.

Prints one line of JSON after each part: the seconds since the process started, and the best validation accuracy. Needs
`torch`, `torchvision` and `timm`, which Thaw does not install.
"""

import argparse
import json
import os
import time
from pathlib import Path

START = time.perf_counter()

import timm  # noqa: E402
import torch  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--thaw-from", type=int, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--head-only", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(1)
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
    loaders = [
        torch.utils.data.DataLoader(part, BATCH, shuffle=part is train, num_workers=os.cpu_count(),
                                    persistent_workers=True)
        for part in (train, validation)
    ]  # fmt: skip
    report("head", fit(model, *loaders, 1e-3, 20))
    if arguments.head_only:
        return
    for part in (*model.blocks[arguments.thaw_from :], model.conv_head):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.requires_grad_(True)
    report("fine_tuned", fit(model, *loaders, 1e-4, 10))


def load(model: torch.nn.Module, weights: Path) -> None:
    """Load weights by the order of their tensors, since the names of the two networks differ."""
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    own = model.state_dict()
    assert [t.shape for t in own.values()] == [t.shape for t in tensors.values()]
    model.load_state_dict(dict(zip(own, tensors.values(), strict=True)))


def fit(model: torch.nn.Module, train, validation, rate: float, epochs: int) -> float:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    best = 0.0
    for _ in range(epochs):
        for x, y in train:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        with torch.inference_mode():
            correct = sum(int((model(x).argmax(1) == y).sum()) for x, y in validation)
        best = max(best, correct / len(validation.dataset))
    return best


def report(part: str, accuracy: float) -> None:
    print(json.dumps({"part": part, "seconds": time.perf_counter() - START, "accuracy": accuracy}), flush=True)


if __name__ == "__main__":
    main()
