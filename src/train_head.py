"""Train the head on the frozen features: `models/head`, its metrics and its curves.

A linear head is fitted at each C of `head.strengths`, the strongest penalty first, until the validation loss has risen
twice in a row. A network is trained with Keras. With `head.extend`, a linear head keeps the rows of an existing model,
and rows for new classes are fitted beside them. Each is trained on the plain photographs, on these and their augmented
copies, or on both in turn, as `head.augmented` lists.

The head with the lowest loss on the validation split is kept. For networks it is the calibrated loss, which also
chooses their epoch, unless `head.patience` is null. `start` holds the head that fine-tuning starts with.
"""

from pathlib import Path

from dvclive import Live

from thaw.core import arrays, params
from thaw.core.errors import ThawError, run
from thaw.core.files import atomic_folder
from thaw.features import examples
from thaw.heads import registry, selection
from thaw.heads.protocol import HeadData

FEATURES = Path("data/features")
SPLIT = Path("data/split.csv")
BACKBONE = Path("models/backbone")
OUTPUT = Path("models/head")
REPORT = Path("reports/head")


def main() -> None:
    head = params.load(Path("params.yaml")).head
    if isinstance(head.extend, str) and Path(head.extend).resolve() == OUTPUT.with_name("model.keras").resolve():
        raise ThawError(f"head.extend: this pipeline writes {head.extend} itself: copy it elsewhere first")
    features = arrays.open_rows(FEATURES / "features.npy")
    classes = examples.read_classes(FEATURES)
    params.check_classes(Path("params.yaml"), classes)
    data = HeadData(features, examples.read(FEATURES, SPLIT), classes, BACKBONE)
    with atomic_folder(REPORT) as report, Live(str(report), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def log(variant: str, step: int, scores: dict[str, float]) -> None:
            live.step = step
            for name, value in scores.items():
                live.log_metric(f"{variant}/{name}", value)

        trained = registry.train(head, data, log)
        live.summary |= selection.best_scores(trained)
    best = selection.best(trained)
    with atomic_folder(OUTPUT) as folder:
        best.head.save(folder)
        selection.start_of_fine_tuning(trained).head.save(folder / "start")
    accuracy = best.scores["validation_accuracy_weighted"]
    print(f"train_head: {best.description}, {accuracy:.1%} of the weighted validation labels right")


if __name__ == "__main__":
    run(main)
