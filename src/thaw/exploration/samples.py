"""The FiftyOne dataset of a run: its samples, one for each photograph, and their fields.

Samples without an `image_id` belong to the user: nothing here changes them.
"""

import operator
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.core.metrics_file import MODELS
from thaw.exploration import several_labels
from thaw.exploration.finished_run import Run

FEATURES = "features"
NEAR_DUPLICATES = "near_duplicate_of"
MAX_LOGITS_CLASSES = 100  # with more classes, the logits would need more space than all other fields of a sample
BLOCK_IMAGES = 1_000  # images whose features are written at a time

FIELDS = {  # field → its description; the `meta_` columns and what FiftyOne computes are not listed
    "image_id": "its id in images.csv",
    "ground_truth": "its label, or those that it is known to show",
    several_labels.ABSENT_FIELD: "the labels that somebody verified it not to show",
    "split": "train, validation or test; also a tag",
    "group": "near-duplicates by their pixels share one; a group is never split",
    "weight": "how sure its source is of the label, 0 to 1",
    "head": "what the head on the frozen features predicts; of one label, the most probable class, not calibrated",
    "fine_tuned": "what the fine-tuned model predicts; of one label, the most probable class, not calibrated",
    "self_confidence": "the probability of its label for a head that never saw it: low where the label may be wrong",
    "source": "where it comes from",
    "license": "its licence",
    "author": "the author to name",
    "landing_url": "its page",
    FEATURES: "the features of the frozen backbone",
    NEAR_DUPLICATES: "the id of the photograph with nearly the same features; of that photograph, its own id",
}


def open_dataset(name: str, repository: Path, image_ids: Iterable[str]):
    """Return the persistent FiftyOne dataset `name` of the run in `repository`; create it if there is none.

    A dataset of a repository that has moved to `repository` is taken over, if it has no photographs but those of this
    run, `image_ids`: the repository may also be on another machine, or on a disk that is not mounted. Raises ThawError
    where the name is invalid, the dataset was not made by Thaw, or it belongs to another repository.
    """
    import fiftyone as fo

    repository = repository.resolve()
    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        owner = state(dataset).get("repository")
        if not owner:
            raise ThawError(f"the FiftyOne dataset {name!r} was not made by Thaw: choose another with --name")
        if Path(owner) != repository and (_may_exist(owner) or _sample_ids(dataset).keys() - set(image_ids)):
            raise ThawError(f"the FiftyOne dataset {name!r} is that of the run in {owner}: choose another with --name")
    else:
        try:
            dataset = fo.Dataset(name, persistent=True)
        except ValueError as error:
            raise ThawError(
                f"no FiftyOne dataset can have the name {name!r} ({error}): choose another with --name"
            ) from None
    set_state(dataset, repository=str(repository))
    return dataset


def _may_exist(path: str) -> bool:
    """Return whether something is there, or whether it cannot be known."""
    try:
        return Path(path).exists()
    except OSError:
        return True


def state(dataset) -> dict:
    """Return what Thaw has recorded in the dataset: `repository`, `fields`, and the hashes `features`, `evaluated`."""
    return dataset.info.get("thaw", {})


def set_state(dataset, **values: str | list[str] | None) -> None:
    """Record values in the dataset; those not named stay."""
    dataset.info["thaw"] = {**state(dataset), **values}
    dataset.save()


def update(dataset, run: Run, progress: bool = False) -> tuple[int, int]:
    """Bring samples and fields to the state of the run; return the numbers of photographs added and removed.

    Samples and photographs are matched by `image_id`. Everything that the user added stays: tags other than the names
    of the splits, fields, saved views, runs, samples without an `image_id`, and tags of labels. A sample whose
    photograph is no longer in the run is removed, with what the user added to it. Only values that differ are written.

    Raises ThawError where a field of the dataset has another type, or two samples have one `image_id`.
    """
    columns = _columns(run)
    _declare_fields(dataset, columns)
    rows = {image_id: row for row, image_id in enumerate(run.table["image_id"])}
    ids = _sample_ids(dataset)
    removed = [sample for image_id, sample in ids.items() if image_id not in rows]
    existing = {ids[image_id]: row for image_id, row in rows.items() if image_id in ids}
    new = [row for image_id, row in rows.items() if image_id not in ids]
    if new or removed:
        set_state(dataset, features=None, evaluated=None)
    dataset.delete_samples(removed)
    _update_values(dataset, columns, existing)
    dataset.add_samples(_new_samples(columns, run, new), progress=progress, num_samples=len(new))
    if state(dataset).get("features") != run.features_hash:
        set_state(dataset, features=None)  # until `analysis.analyse_features` has used the new features
        _update_features(dataset, run, existing)
    return len(new), len(removed)


def _sample_ids(dataset) -> dict[str, str]:
    """Return {image_id: id of the sample}; raises ThawError where two samples have one image_id."""
    if "image_id" not in dataset.get_field_schema():
        return {}
    image_ids, samples = dataset.exists("image_id").values(["image_id", "id"])
    ids = dict(zip(image_ids, samples, strict=True))
    if len(ids) < len(samples):
        twice = next(image_id for image_id, sample in zip(image_ids, samples, strict=True) if ids[image_id] != sample)
        raise ThawError(f"the FiftyOne dataset {dataset.name!r} holds the photograph {twice} twice: delete one of them")
    return ids


def _columns(run: Run) -> dict[str, list]:
    """Return {path in a sample, such as `head.label`: values of all photographs}, without tags and features."""
    table = run.table
    names = ["filepath", "image_id", "split", "group", "weight", "self_confidence"]
    names += ["source", "license", "author", "landing_url"]
    columns = {name: table[name].to_list() for name in names}
    fields: dict[str, str] = {}
    for name in (name for name in table.columns if name.startswith("meta_")):
        other = fields.setdefault(name.replace(".", "_"), name)  # a dot would name a part of a field
        if other != name:
            raise ThawError(f"the columns {other} and {name} of the photographs are one field of FiftyOne: rename one")
    columns |= {field: table[name].to_list() for field, name in fields.items()}
    columns |= {f"metadata.{name}": table[name].to_list() for name in ("width", "height")}
    if run.values is not None:
        return columns | several_labels.columns(run)
    columns["ground_truth.label"] = table["label"].to_list()
    for model in MODELS:
        columns[f"{model}.label"] = table[f"{model}_label"].to_list()
        columns[f"{model}.confidence"] = table[f"{model}_probability"].to_list()
        if len(run.classes) <= MAX_LOGITS_CLASSES:
            columns[f"{model}.logits"] = list(np.log(run.probabilities[model].clip(1e-7)))
    return columns


def _empty_document(field: str, columns: dict[str, list]):
    """Return an empty document for a field that holds several values, such as `head`."""
    import fiftyone as fo

    if field == "metadata":
        return fo.ImageMetadata()
    return fo.Classifications() if f"{field}.{several_labels.PART}" in columns else fo.Classification()


def _declare_fields(dataset, columns: dict[str, list]) -> None:
    """Add the fields of the run, with descriptions, and delete those that an earlier run added and this one lacks."""
    import fiftyone as fo

    numbers = {"weight", "self_confidence"}
    names = dict.fromkeys(path.partition(".")[0] for path in columns) | {FEATURES: None, NEAR_DUPLICATES: None}
    names = [name for name in names if name not in ("filepath", "metadata")]
    before = state(dataset).get("fields", [])
    dataset.delete_sample_fields([name for name in before if name not in names], error_level=2)
    for name in names:
        kind = {"ftype": fo.FloatField if name in numbers else fo.StringField}
        if f"{name}.label" in columns:
            kind = {"ftype": fo.EmbeddedDocumentField, "embedded_doc_type": fo.Classification}
        elif f"{name}.{several_labels.PART}" in columns:
            kind = {"ftype": fo.EmbeddedDocumentField, "embedded_doc_type": fo.Classifications}
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
    set_state(dataset, fields=names)


def _new_samples(columns: dict[str, list], run: Run, rows: list[int]) -> Iterator:
    """Yield a new sample for each of these rows of the run."""
    import fiftyone as fo

    for row in rows:
        sample = fo.Sample(filepath=columns["filepath"][row], tags=[columns["split"][row]])
        for path, values in columns.items():
            field, _, part = path.partition(".")
            if not part:
                sample[field] = values[row]
                continue
            if not sample.has_field(field) or sample[field] is None:
                sample[field] = _empty_document(field, columns)
            sample[field][part] = several_labels.documents(values[row]) if part == several_labels.PART else values[row]
        sample[FEATURES] = np.asarray(run.features[run.rows[row]], np.float32)
        yield sample


def _update_values(dataset, columns: dict[str, list], rows: dict[str, int]) -> None:
    """Write the values that differ in existing samples; `rows` is {id of each sample: row of the run}."""
    existing = dataset.exists("image_id")
    for field in {path.partition(".")[0]: None for path in columns if "." in path}:
        empty = existing.exists(field, False).values("id")
        dataset.set_values(field, {sample: _empty_document(field, columns) for sample in empty}, key_field="id")
    for path, values in columns.items():
        are_several = path.endswith(f".{several_labels.PART}")
        differ = several_labels.differ if are_several else _arrays_differ if path.endswith(".logits") else operator.ne
        pairs = zip(*existing.values(["id", path]), strict=True)
        changed = {sample: values[rows[sample]] for sample, old in pairs if differ(old, values[rows[sample]])}
        if are_several:
            changed = {sample: several_labels.documents(labels) for sample, labels in changed.items()}
        dataset.set_values(path, changed, key_field="id")
    changed = {}
    for sample, old in zip(*existing.values(["id", "tags"]), strict=True):
        new = [tag for tag in old if tag not in tables.SPLITS] + [columns["split"][rows[sample]]]
        if sorted(new) != sorted(old):
            changed[sample] = new
    dataset.set_values("tags", changed, key_field="id")


def _arrays_differ(old: np.ndarray | None, new: np.ndarray) -> bool:
    return old is None or not np.array_equal(old, new)


def _update_features(dataset, run: Run, rows: dict[str, int]) -> None:
    """Write the features of existing samples; `rows` is {id of the sample: row of the run}."""
    samples = list(rows)
    for start in range(0, len(samples), BLOCK_IMAGES):
        block = samples[start : start + BLOCK_IMAGES]
        features = run.features[run.rows[[rows[sample] for sample in block]]].astype(np.float32)
        dataset.set_values(FEATURES, dict(zip(block, features, strict=True)), key_field="id")
