"""A finished run as a FiftyOne dataset: every photograph with its labels, predictions and features, to look at.

FiftyOne is no part of the default installation; it is imported when `connect` is called, and no earlier.
"""

import contextlib
import hashlib
import operator
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl

from thaw import arrays, examples, tables
from thaw.errors import ThawError

PREDICTIONS = {
    "image_id": pl.String,
    "split": pl.String,
    "label": pl.String,
    "head_label": pl.String,
    "head_probability": pl.Float64,
    "fine_tuned_label": pl.String,
    "fine_tuned_probability": pl.Float64,
    "self_confidence": pl.Float64,
}
MODELS = {"head": "head", "fine_tuned": "fine-tuned model"}
EVALUATED = ("validation", "test")
MOST_LOGITS = 100  # classes: beyond, the logits would outweigh everything else of a sample

FEATURES = "features"
SIMILARITY = "features_similarity"
VISUALIZATION = "features_pca"
UNIQUENESS = "uniqueness"
NEAR_DUPLICATES = "near_duplicate_of"
# Cosine distance of centred features. Of 2,624 solar cells, which all look alike, 119 have a neighbour this near.
NEAR = 0.02
SUSPICIOUS = 0.05  # the share of all photographs that the view of suspicious labels shows
# With fewer photographs than this FiftyOne computes all distances at once: 25 million numbers, twice. Its own limit
# of 15,000 takes 4 GB; beyond it neighbours are searched in blocks.
ALL_DISTANCES = 5_000
BLOCK = 1_000  # photographs whose features are written at a time

OURS = "Written by Thaw, and anew at each run."
FIELDS = {  # of every dataset; `meta_` columns and what FiftyOne computes come on top
    "image_id": "its id in images.csv",
    "ground_truth": "its label",
    "split": "train, validation or test; also a tag",
    "group": "near-duplicates by their pixels share one; a group is never split",
    "weight": "how sure its source is of the label, 0 to 1",
    "head": "what the head on the frozen features predicts",
    "fine_tuned": "what the fine-tuned model predicts",
    "self_confidence": "the probability of its label for a head that never saw it: low where the label may be wrong",
    "source": "where it comes from",
    "license": "its licence",
    "author": "whom to name",
    "landing_url": "its page",
    FEATURES: "what the frozen backbone says of it",
    NEAR_DUPLICATES: "the id of the photograph that it resembles to the backbone; of that one, its own",
}


@dataclass(frozen=True)
class Run:
    """A finished run, one row a photograph, sorted by id."""

    table: pl.DataFrame  # images.csv, split.csv and predictions.csv, joined; `filepath` is absolute
    classes: tuple[str, ...]
    probabilities: dict[str, np.ndarray]  # of each model, (n, classes) float32
    features: np.ndarray  # (rows, channels); maps are pooled
    rows: np.ndarray  # (n,) int, those of the features that show the plain photographs


def read(raw: Path, split: Path, features: Path, predictions: Path) -> Run:
    """Read a run from its folders `raw`, `features` and `predictions` and the table `split`.

    Raises ThawError where one is missing, or they do not tell of the same photographs, labels and splits.
    """
    predicted = tables.read(predictions / "predictions.csv", PREDICTIONS).with_row_index("row").sort("image_id")
    table = tables.read(split, tables.SPLIT).sort("image_id")
    common = ["image_id", "label", "split"]
    if not table.select(common).equals(predicted.select(common)):
        raise ThawError(f"{predictions} and {split} are not of the same run: run `dvc repro`")
    shown = tables.read(features / "rows.csv", tables.ROWS).with_row_index("feature").filter(copy=0).drop("copy")
    images = tables.read_images(raw).drop("label", "weight")
    for other in (predicted.drop("label", "split"), shown, images):
        table = table.join(other, on="image_id", how="left", maintain_order="left")
    for column, where in (("feature", features / "rows.csv"), ("path", raw / "images.csv")):
        if table[column].null_count():
            unknown = table.filter(pl.col(column).is_null())["image_id"][0]
            raise ThawError(f"{where} does not list the photograph {unknown} of {split}: run `dvc repro`")
    classes = examples.read_classes(features)
    probabilities = {}
    for model in MODELS:
        array = arrays.open_rows(predictions / f"{model}.npy")
        if array.shape != (len(table), len(classes)):
            raise ThawError(f"{predictions}/{model}.npy does not fit the other files of the run: run `dvc repro`")
        probabilities[model] = array[table["row"].to_numpy()]
    folder = raw.resolve()  # the file itself may be a link into DVC's cache, where it has no name
    paths = [str(folder / path) for path in table["path"]]
    return Run(
        table=table.with_columns(filepath=pl.Series(paths, dtype=pl.String)),
        classes=classes,
        probabilities=probabilities,
        features=arrays.pooled(arrays.open_rows(features / "features.npy")),
        rows=table["feature"].to_numpy().astype(np.int64),
    )


def connect() -> ModuleType:
    """Import FiftyOne, with its database running, and return it; raises ThawError where either is not to be had."""
    # Nothing of a run is to be reported to anyone, and notices would come between the lines of a script.
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    install = "`.venv/bin/uv pip install --require-hashes -r requirements-fiftyone.txt`"
    try:
        import fiftyone
        import fiftyone.brain
    except ModuleNotFoundError:
        raise ThawError(f"looking at a run wants the package fiftyone: run {install}") from None
    try:
        with _silence():
            fiftyone.list_datasets()
    except Exception as error:  # FiftyOne and the database's driver raise a dozen kinds
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        log = Path(fiftyone.config.database_dir) / "log/mongo.log"
        if not fiftyone.config.database_uri and log.exists():
            why += f"; its log is {log}"
        raise ThawError(
            f"FiftyOne's database does not answer ({why}): where MongoDB is missing, {install} brings it; "
            "FIFTYONE_DATABASE_URI names one that runs elsewhere"
        ) from None
    return fiftyone


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the processes that are started meanwhile from writing to the terminal: a database that fails does so."""
    with Path(os.devnull).open("w") as nowhere:
        kept = [(stream, os.dup(stream)) for stream in (1, 2)]
        try:
            for stream, _ in kept:
                os.dup2(nowhere.fileno(), stream)
            yield
        finally:
            for stream, copy in kept:
                os.dup2(copy, stream)
                os.close(copy)


def open_dataset(name: str, repository: Path):
    """Return the persistent dataset `name` of the run in `repository`, made where there is none.

    Raises ThawError where it is somebody else's, or that of another repository that still exists; one whose
    repository has moved here is taken over.
    """
    import fiftyone as fo

    repository = repository.resolve()
    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        owner = dataset.info.get("thaw", {}).get("repository")
        if not owner:
            raise ThawError(f"the FiftyOne dataset {name!r} was not made by Thaw: choose another with --name")
        if Path(owner) != repository and Path(owner).exists():
            raise ThawError(f"the FiftyOne dataset {name!r} is that of the run in {owner}: choose another with --name")
    else:
        try:
            dataset = fo.Dataset(name, persistent=True)
        except ValueError as error:
            raise ThawError(
                f"no FiftyOne dataset can have the name {name!r} ({error}): choose another with --name"
            ) from None
    _note(dataset, repository=str(repository))
    return dataset


def update(dataset, run: Run, progress: bool = False) -> tuple[int, int]:
    """Bring the dataset to the state of the run; returns the numbers of photographs that were added and removed.

    Photographs are matched by `image_id`. What a person added stays: tags other than the three of the splits,
    fields, saved views, runs and samples of their own, and tags of labels. Only values that differ are written.
    """
    columns = _columns(run)
    _declare(dataset, columns)
    rows = {image_id: row for row, image_id in enumerate(run.table["image_id"])}
    ids = _ids(dataset)
    removed = [sample for image_id, sample in ids.items() if image_id not in rows]
    known = {ids[image_id]: row for image_id, row in rows.items() if image_id in ids}
    new = [row for image_id, row in rows.items() if image_id not in ids]
    if new or removed:
        _note(dataset, features=None, evaluated=None)
    dataset.delete_samples(removed)
    _update_values(dataset, columns, known)
    dataset.add_samples(_samples(columns, run, new), progress=progress, num_samples=len(new))

    digest = _digest(run)
    runs = (SIMILARITY, VISUALIZATION, UNIQUENESS)
    if digest != dataset.info["thaw"].get("features") or not all(map(dataset.has_brain_run, runs)):
        _note(dataset, features=None)  # from here to the end the dataset is of no run
        _update_features(dataset, run, known)
        _look_at_features(dataset, progress)
        _note(dataset, features=digest)
    return len(new), len(removed)


def evaluate(dataset, run: Run, progress: bool = False) -> dict[str, dict[str, float]]:
    """Run FiftyOne's `evaluate_classifications` and its mistakenness; returns the accuracy by model and split.

    The evaluations are `head_validation`, `head_test`, `fine_tuned_validation` and `fine_tuned_test`. Where nothing
    that they depend on has changed, they are not run again.
    """
    import fiftyone.brain as brain
    from fiftyone import ViewField

    ours = dataset.exists("image_id")
    keys = {f"{model}_{split}": (model, split) for model in MODELS for split in EVALUATED}
    judged = run.table.select(*PREDICTIONS).drop("self_confidence")
    digest = hashlib.sha256(judged.write_csv().encode()).hexdigest()
    if digest != dataset.info["thaw"].get("evaluated") or not all(map(dataset.has_evaluation, keys)):
        _note(dataset, evaluated=None)
        for model in MODELS:
            brain.compute_mistakenness(
                ours, model, label_field="ground_truth", mistakenness_field=f"{model}_mistakenness", progress=progress
            )
        for key, (model, split) in keys.items():
            ours.match(ViewField("split") == split).evaluate_classifications(
                model, gt_field="ground_truth", eval_key=key, classes=list(run.classes), progress=progress
            )
        _note(dataset, evaluated=digest)
    accuracies = {model: {} for model in MODELS}
    for key, (model, split) in keys.items():
        accuracies[model][split] = float(dataset.load_evaluation_results(key).metrics()["accuracy"])
    return accuracies


def save_views(dataset) -> list[str]:
    """Save the views that a run is looked at by; returns the names that a person's own view has taken."""
    from fiftyone.core.utils import to_slug  # names are the same to FiftyOne where these are

    infos = map(dataset.get_saved_view_info, dataset.list_saved_views())
    theirs = {to_slug(info["name"]) for info in infos if not (info["description"] or "").endswith(OURS)}
    views = _views(dataset)
    for name, (view, description) in views.items():
        if to_slug(name) not in theirs:
            dataset.save_view(name, view, description=f"{description} {OURS}", overwrite=True)
    return [name for name in views if to_slug(name) in theirs]


def _views(dataset) -> dict:
    """The views by name, each with what it shows."""
    from fiftyone import ViewField

    ours = dataset.exists("image_id")
    label, split = ViewField("ground_truth.label"), ViewField("split")
    views = {}
    for part in tables.SPLITS:
        whole = ours.match(split == part)
        views[part] = whole, f"The photographs of {part}."
        for model, words in MODELS.items():
            wrong = whole.match(ViewField(f"{model}.label") != label).sort_by(f"{model}.confidence", reverse=True)
            views[f"{part}: mistakes of the {words}"] = wrong, "The surest first."
        disagree = whole.match(ViewField("head.label") != ViewField("fine_tuned.label"))
        views[f"{part}: the models disagree"] = disagree, "Head and fine-tuned model predict different classes."
    judged = ours.exists("self_confidence").sort_by("self_confidence")
    views["suspicious labels"] = (
        judged.limit(max(1, round(SUSPICIOUS * len(ours)))),
        f"The {SUSPICIOUS:.0%} of all labels that a head which never saw them doubts most.",
    )
    views["near-duplicates"] = (
        ours.exists(NEAR_DUPLICATES).sort_by(NEAR_DUPLICATES),
        f"Photographs within a cosine distance of {NEAR} to the backbone, side by side.",
    )
    return views


def _note(dataset, **values: str | None) -> None:
    dataset.info["thaw"] = {**dataset.info.get("thaw", {}), **values}
    dataset.save()


def _ids(dataset) -> dict[str, str]:
    """The ids of the samples by those of their photographs; raises ThawError where two show the same one."""
    if "image_id" not in dataset.get_field_schema():
        return {}
    image_ids, samples = dataset.exists("image_id").values(["image_id", "id"])
    ids = dict(zip(image_ids, samples, strict=True))
    if len(ids) < len(samples):
        twice = next(image_id for image_id, sample in zip(image_ids, samples, strict=True) if ids[image_id] != sample)
        raise ThawError(f"the FiftyOne dataset {dataset.name!r} holds the photograph {twice} twice: delete one of them")
    return ids


def _columns(run: Run) -> dict[str, list]:
    """The values of all photographs by their path in a sample, but for tags and features."""
    table = run.table
    own = ("filepath", "image_id", "split", "group", "weight", "self_confidence")
    meta = (name for name in table.columns if name.startswith("meta_"))
    columns = {name: table[name].to_list() for name in (*own, *meta, "source", "license", "author", "landing_url")}
    columns |= {f"metadata.{name}": table[name].to_list() for name in ("width", "height")}
    columns["ground_truth.label"] = table["label"].to_list()
    for model in MODELS:
        columns[f"{model}.label"] = table[f"{model}_label"].to_list()
        columns[f"{model}.confidence"] = table[f"{model}_probability"].to_list()
        if len(run.classes) <= MOST_LOGITS:
            columns[f"{model}.logits"] = list(np.log(run.probabilities[model].clip(1e-7)))
    return columns


def _document(field: str):
    """An empty document of the kind that a field of several values holds."""
    import fiftyone as fo

    return fo.ImageMetadata() if field == "metadata" else fo.Classification()


def _declare(dataset, columns: dict[str, list]) -> None:
    """Give the dataset its fields, described, and take away those of ours that this run has not."""
    import fiftyone as fo

    numbers = {"weight", "self_confidence"}
    names = dict.fromkeys(path.partition(".")[0] for path in columns) | {FEATURES: None, NEAR_DUPLICATES: None}
    names = [name for name in names if name not in ("filepath", "metadata")]
    before = dataset.info["thaw"].get("fields", [])
    dataset.delete_sample_fields([name for name in before if name not in names], error_level=2)
    for name in names:
        kind = {"ftype": fo.FloatField if name in numbers else fo.StringField}
        if f"{name}.label" in columns:
            kind = {"ftype": fo.EmbeddedDocumentField, "embedded_doc_type": fo.Classification}
        elif name == FEATURES:
            kind = {"ftype": fo.VectorField}
        description = FIELDS.get(name, "as the source has it")
        try:
            dataset.add_sample_field(name, description=description, **kind)
        except ValueError:
            raise ThawError(
                f"the field {name!r} of the FiftyOne dataset {dataset.name!r} is of another kind than Thaw's: rename "
                "it, or choose another dataset with --name"
            ) from None
    dataset.create_index("image_id")
    _note(dataset, fields=names)


def _samples(columns: dict[str, list], run: Run, rows: list[int]) -> Iterator:
    """New samples for rows of the run."""
    import fiftyone as fo

    for i in rows:
        sample = fo.Sample(filepath=columns["filepath"][i], tags=[columns["split"][i]])
        for path, values in columns.items():
            field, _, part = path.partition(".")
            if not part:
                sample[field] = values[i]
                continue
            if not sample.has_field(field) or sample[field] is None:
                sample[field] = _document(field)
            sample[field][part] = values[i]
        sample[FEATURES] = np.asarray(run.features[run.rows[i]], np.float32)
        yield sample


def _update_values(dataset, columns: dict[str, list], rows: dict[str, int]) -> None:
    """Write the values of the samples that show a photograph of the run, {id: row} of them all, where they differ."""
    ours = dataset.exists("image_id")
    for field in {path.partition(".")[0]: None for path in columns if "." in path}:
        emptied = ours.exists(field, False).values("id")
        dataset.set_values(field, {sample: _document(field) for sample in emptied}, key_field="id")
    for path, values in columns.items():
        differ = _arrays_differ if path.endswith(".logits") else operator.ne
        pairs = zip(*ours.values(["id", path]), strict=True)
        changed = {sample: values[rows[sample]] for sample, old in pairs if differ(old, values[rows[sample]])}
        dataset.set_values(path, changed, key_field="id")
    changed = {}
    for sample, old in zip(*ours.values(["id", "tags"]), strict=True):
        new = [tag for tag in old if tag not in tables.SPLITS] + [columns["split"][rows[sample]]]
        if sorted(new) != sorted(old):
            changed[sample] = new
    dataset.set_values("tags", changed, key_field="id")


def _arrays_differ(old: np.ndarray | None, new: np.ndarray) -> bool:
    return old is None or not np.array_equal(old, new)


def _digest(run: Run) -> str:
    """A hash of which features belong to which photograph."""
    digest = hashlib.sha256("\n".join(run.table["image_id"]).encode())
    for start in range(0, len(run.rows), BLOCK):
        digest.update(np.ascontiguousarray(run.features[run.rows[start : start + BLOCK]]))
    return digest.hexdigest()


def _update_features(dataset, run: Run, rows: dict[str, int]) -> None:
    """Write the features of known samples, {id: row}."""
    samples = list(rows)
    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK]
        features = run.features[run.rows[[rows[sample] for sample in block]]].astype(np.float32)
        dataset.set_values(FEATURES, dict(zip(block, features, strict=True)), key_field="id")


def _look_at_features(dataset, progress: bool) -> None:
    """What FiftyOne's brain finds in the features: a map, similarity, uniqueness and near-duplicates."""
    import fiftyone.brain as brain
    import fiftyone.brain.internal.core.sklearn as neighbours

    neighbours._MAX_PRECOMPUTE_DISTS = ALL_DISTANCES
    ours = dataset.exists("image_id")
    for key in (SIMILARITY, VISUALIZATION, UNIQUENESS):
        if dataset.has_brain_run(key):
            dataset.delete_brain_run(key)
    index = brain.compute_similarity(ours, embeddings=FEATURES, brain_key=SIMILARITY, backend="sklearn")
    brain.compute_visualization(ours, similarity_index=index, method="pca", brain_key=VISUALIZATION, seed=1)
    brain.compute_uniqueness(ours, uniqueness_field=UNIQUENESS, similarity_index=index, progress=progress)
    brain.compute_near_duplicates(ours, threshold=NEAR, similarity_index=index, progress=progress)
    image_ids = dict(zip(*ours.values(["id", "image_id"]), strict=True))
    near = dict.fromkeys(image_ids)
    for kept, duplicates in index.neighbors_map.items():
        near |= dict.fromkeys([kept, *(sample for sample, _ in duplicates)], image_ids[kept])
    dataset.set_values(NEAR_DUPLICATES, near, key_field="id")
