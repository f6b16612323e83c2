"""The images of a run: which rows of an extracted array show each of them, its split, label, weight and group."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs

from thaw.core import label_values, tables
from thaw.core.errors import ThawError
from thaw.core.files import read_json

MIN_PROBABILITY = 1e-7  # the loss counts smaller ones as this
NO_LABEL = -1  # of an image with several labels, where these are not read
NO_VIEW = -1  # fills the row of an image that has fewer views than another


@dataclass(frozen=True)
class Examples:
    """Labelled images, sorted by id; their features or activations are rows of one array."""

    image_ids: np.ndarray  # (n,) str
    splits: np.ndarray  # (n,) str, of tables.SPLITS
    views: np.ndarray  # (n, most views) int, rows of the array: the plain view, augmented ones; then NO_VIEW
    labels: np.ndarray  # (n,) int, positions in the classes
    weights: np.ndarray  # (n,) float64, as the source gives them
    groups: np.ndarray  # (n,) str, near-duplicates share one
    folds: np.ndarray | None = None  # (n, repeats) int, the fold of each image in each repeat; None: there is one split
    # Of images with several labels, as in `core.label_values`; None: one label each. All `labels` are 0 then.
    values: np.ndarray | None = None  # (n, classes) int8
    value_weights: np.ndarray | None = None  # (n, classes) float64, 0 where unknown

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def rows(self) -> np.ndarray:
        """The (n,) rows of the array that show the plain images."""
        return self.views[:, 0]

    @property
    def view_counts(self) -> np.ndarray:
        """The (n,) numbers of views, the plain one among them."""
        return (self.views != NO_VIEW).sum(axis=1)

    def without_augmented_views(self) -> "Examples":
        """Return the same images, each with its plain view alone."""
        return replace(self, views=self.rows[:, None])

    def positions(self, split: str) -> np.ndarray:
        """Return the positions, in order, of the images of a split."""
        return np.flatnonzero(self.splits == split)

    def take(self, positions: np.ndarray) -> "Examples":
        """Return the images at these positions alone. Columns of `views` that hold only NO_VIEW are dropped."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        columns = {name: None if column is None else column[positions] for name, column in columns.items()}
        used = (columns["views"] != NO_VIEW).any(axis=0)
        used[0] = True  # without any images too
        return Examples(**columns | {"views": columns["views"][:, used]})

    def split(self, name: str) -> "Examples":
        """Return the images of one split."""
        return self.take(self.positions(name))

    def rounds(self, repeat: int = 0) -> "list[Examples]":
        """Return the same images once for each training that measures them, each time with the splits of that training.

        With folds, each fold is the test split of one round; the next fold is its validation split, and all others
        train. So each image is tested once and validates once. Without folds, the one round has the splits as they are.
        """
        if self.folds is None:
            return [self]
        fold = self.folds[:, repeat]
        count = int(fold.max()) + 1
        return [
            replace(self, splits=np.select([fold == i, fold == (i + 1) % count], ["test", "validation"], "train"))
            for i in range(count)
        ]

    def asked(self, repeat: int = 0) -> "tuple[Examples, np.ndarray]":
        """Return the images that models are asked about, and the number (m,) of the round whose models predict them.

        With folds, all images come twice: first as those of test, then as those of validation, both times in their
        order. Without, they come as they are, and the one round predicts them.
        """
        if self.folds is None:
            return self, np.zeros(len(self), int)
        fold, everyone = self.folds[:, repeat], np.arange(len(self))
        asked = self.take(np.concatenate([everyone, everyone]))
        validated_by = (fold - 1) % (fold.max() + 1)
        splits = np.repeat(["test", "validation"], len(self))
        return replace(asked, splits=splits), np.concatenate([fold, validated_by])

    def all_rounds(self) -> "list[Examples]":
        """Return the rounds of all repeats, those of the first repeat first."""
        repeats = 1 if self.folds is None else self.folds.shape[1]
        return [part for repeat in range(repeats) for part in self.rounds(repeat)]


def read_classes(folder: Path) -> tuple[str, ...]:
    """Return the class names, in the order of the model's outputs, from a folder that an extraction wrote."""
    return tuple(read_json(folder / "classes.json"))


def read_presets(folder: Path) -> list[str]:
    """Return the presets whose augmented views a folder of an extraction holds, in the order of the views."""
    rows = read_rows(folder).drop_nulls("preset").sort("copy")
    return rows["preset"].unique(maintain_order=True).to_list()


def read_rows(folder: Path, preset: str | None = None) -> pl.DataFrame:
    """Return the rows of the array in a folder of an extraction: the columns of `tables.ROWS`, and `row`, its number.

    With a preset, the augmented views of other presets are left out.
    """
    rows = tables.read(folder / "rows.csv", tables.ROWS).with_row_index("row")
    return rows if preset is None else rows.filter(pl.col("preset").is_null() | (pl.col("preset") == preset))


def read(folder: Path, split: Path, preset: str | None = None, labels_file: Path | None = None) -> Examples:
    """Return the images of all splits, with the rows of the array in a folder that an extraction wrote.

    Args:
        folder: What the extraction wrote.
        split: Path of split.csv.
        preset: Of augmentation, whose views alone are listed, beside the plain ones; None: of all presets.
        labels_file: Path of labels.csv; None: the labels of images with several are not read, but NO_LABEL.

    Raises:
        ThawError: `split` does not list the same images as rows.csv in the folder, or labels.csv does not fit them.
    """
    images = tables.read(split, tables.SPLIT)
    rows = read_rows(folder, preset).sort("image_id", "copy")
    rows = rows.select("image_id", "row", view=pl.int_range(pl.len()).over("image_id"))
    plain = rows.filter(view=0).join(images, on="image_id", how="left", maintain_order="left")
    if plain["split"].null_count() or len(plain) != len(images):
        raise ThawError(f"{folder}/rows.csv and {split} do not list the same photographs: run `dvc repro`")
    views = np.full((len(plain), 1 + (rows["view"].max() or 0)), NO_VIEW)
    image = (rows["view"] == 0).cum_sum().to_numpy().astype(int) - 1
    views[image, rows["view"].to_numpy()] = rows["row"].to_numpy()
    classes = {name: number for number, name in enumerate(read_classes(folder))}
    labels = np.array([classes.get(label, NO_LABEL) for label in plain["label"]], dtype=int)
    known = label_values.read(labels_file, plain["image_id"], list(classes)) if labels_file else None
    if labels_file and known is None and NO_LABEL in labels:
        raise ThawError(f"{split} has a label that is no class of {folder}/classes.json: run `dvc repro`")
    folds = plain.select(cs.matches(tables.FOLD_COLUMNS))
    return Examples(
        image_ids=plain["image_id"].to_numpy(),
        splits=_shared(plain["split"]),
        views=views,
        labels=labels if known is None else np.zeros(len(plain), int),
        weights=plain["weight"].to_numpy(),
        groups=plain["group"].to_numpy(),
        folds=folds.to_numpy() if folds.width else None,
        values=known.values if known else None,
        value_weights=known.weights if known else None,
    )


def _shared(column: pl.Series) -> np.ndarray:
    """Return a column of text as an array of objects that are one where they are equal: as small as numbers."""
    return column.unique().sort().to_numpy()[column.rank("dense").to_numpy() - 1]


def training_weights(examples: Examples, class_weight: str | None) -> np.ndarray:
    """Return the (n,) weights, scaled to a mean of 1. With `balanced`, every class has the same sum.

    Raises ThawError if all weights of a class are 0.
    """
    sums = np.bincount(examples.labels, examples.weights)
    if not sums.all():
        raise ThawError("all training photographs of a class have the weight 0: it cannot be learnt")
    weights = examples.weights / sums[examples.labels] if class_weight == "balanced" else examples.weights
    return weights / weights.mean()


def losses(probabilities: np.ndarray, examples: Examples) -> np.ndarray:
    """Return the cross-entropy (nats) of each row of (n, classes) probabilities, (n,) float64."""
    likelihoods = probabilities[np.arange(len(examples)), examples.labels].astype(np.float64)
    return -np.log(likelihoods.clip(MIN_PROBABILITY))


def weighted_scores(probabilities: np.ndarray, examples: Examples) -> tuple[float, float]:
    """Return the weighted cross-entropy (nats) and accuracy of (n, classes) probabilities.

    Raises ThawError if all weights are 0.
    """
    if not examples.weights.any():
        raise ThawError("all validation photographs have the weight 0: they cannot choose between models")
    loss = np.average(losses(probabilities, examples), weights=examples.weights)
    accuracy = np.average(probabilities.argmax(axis=1) == examples.labels, weights=examples.weights)
    return float(loss), float(accuracy)
