"""Train the head on the frozen features, and choose the augmentation: `models/head`, its metrics and its curves.

A linear head is fitted at each C of `head.strengths`, the strongest penalty first, until the validation loss has risen
twice in a row. A network is trained with Keras. With `head.extend`, a linear head keeps the rows of an existing model,
and rows for new classes are fitted beside them. Each is trained on the plain photographs, on these and their augmented
copies, or on both in turn, as `head.augmented` lists.

With `augment.preset: auto`, a head is trained on the copies of each preset. The loss on validation chooses the preset:
`models/augmentation.json`, which `extract_activations` follows. The heads of the other presets are dropped.

The head with the lowest loss on the validation split is kept. For networks it is the calibrated loss, which also
chooses their epoch, unless `head.patience` is null. `head.zip` holds its files, which differ between kinds of heads;
in `start`, those of the head that fine-tuning starts with.
"""

from pathlib import Path

from thaw.core import archive, arrays, params
from thaw.core.errors import ThawError, run
from thaw.core.files import write_json
from thaw.features import examples
from thaw.heads import registry, selection
from thaw.heads.protocol import AUGMENTED, PLAIN, HeadData
from thaw.training import metrics_folder

FEATURES = Path("data/features")
SPLIT = Path("data/split.csv")
BACKBONE = Path("models/backbone")
OUTPUT = Path("models/head/head.zip")
AUGMENTATION = Path("models/augmentation.json")
REPORT = Path("reports/head")
TRIED = "plots/heads.csv"  # in it: the curves of all heads


def main() -> None:
    head = params.load(Path("params.yaml")).head
    if isinstance(head.extend, str) and Path(head.extend).resolve() == AUGMENTATION.with_name("model.keras").resolve():
        raise ThawError(f"head.extend: this pipeline writes {head.extend} itself: copy it elsewhere first")
    features = arrays.open_rows(FEATURES / "features.npy")
    classes = examples.read_classes(FEATURES)
    params.check_classes(Path("params.yaml"), classes)
    images, presets = examples.read(FEATURES, SPLIT), examples.read_presets(FEATURES)
    validation = images.split("validation")
    training = {}
    if False in head.augmented or not presets:
        training[PLAIN] = images.split("train").without_augmented_views()
    for preset in presets if True in head.augmented else []:
        variant = preset if len(presets) > 1 else AUGMENTED
        training[variant] = examples.read(FEATURES, SPLIT, preset).split("train")
    with metrics_folder.replace_with_table(REPORT, TRIED) as live:

        def log(variant: str, step: int, scores: dict[str, float]) -> None:
            live.step = step
            for name, value in scores.items():
                live.log_metric(f"{variant}/{name}", value)

        trained = registry.train(head, HeadData(features, training, validation, classes, BACKBONE), log)
        choice = selection.choose_preset(trained, presets, validation)
        live.summary |= selection.best_scores(trained) | choice.metrics
    trained = selection.of_preset(trained, choice.preset)
    best = selection.best(trained)
    with archive.pack(OUTPUT) as folder:
        best.head.save(folder)
        selection.start_of_fine_tuning(trained).head.save(folder / "start")
    write_json(AUGMENTATION, {"preset": choice.preset})
    accuracy = best.scores["validation_accuracy_weighted"]
    print(f"train_head: {best.description}, {accuracy:.1%} of the weighted validation labels right{choice.text}")


if __name__ == "__main__":
    run(main)
