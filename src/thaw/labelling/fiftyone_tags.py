"""The hand-over as a FiftyOne dataset: photographs with a tag, the model's prediction, and a field for the label.

The caller has imported FiftyOne by `fiftyone_setup.connect`.
"""

from collections.abc import Iterator, Sequence

from thaw.core.errors import ThawError, did_you_mean
from thaw.labelling.hand_over import Item

TAG = "to label"
LABEL, PREDICTION = "ground_truth", "prediction"  # fields of type Classification
OWNER = "thaw labelling"  # in the dataset's info
TEXTS = ("sha256", "reason", "given", "image_id")


def write(name: str, items: Sequence[Item]) -> tuple[int, int]:
    """Add photographs to the dataset `name`, which is made if there is none.

    The tag is on these photographs alone afterwards. What a person has added to a sample stays; but if its file is
    another one than before, the label and the prediction there are of that one, and are removed.

    Returns how many photographs are new to the dataset, and of how many the file is another one.

    Raises ThawError if the dataset is not one of these, or cannot have the name.
    """
    import fiftyone as fo

    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        if not dataset.info.get(OWNER):
            raise ThawError(f"the FiftyOne dataset {name!r} is not one to label: choose another with --fiftyone")
    else:
        try:
            dataset = fo.Dataset(name, persistent=True)
        except ValueError as error:
            raise ThawError(f"no FiftyOne dataset can have the name {name!r} ({error}): choose another") from None
        dataset.info[OWNER] = True
        dataset.save()
        for field in (LABEL, PREDICTION):
            dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification)
        for field in TEXTS:
            dataset.add_sample_field(field, fo.StringField)
        dataset.add_sample_field("score", fo.FloatField)
        dataset.add_sample_field("rank", fo.IntField)
    dataset.match_tags(TAG).untag_samples(TAG)
    known = dict(zip(*dataset.values(["filepath", "id"]), strict=True))
    new = others = 0
    for rank, item in enumerate(items, start=1):
        path = str(item.path)
        sample = dataset[known[path]] if path in known else fo.Sample(filepath=path)
        sample.tags = [*sample.tags, TAG]
        sample["rank"], sample["score"] = rank, item.score
        if path in known and sample["sha256"] != item.sha256:
            sample[LABEL] = sample[PREDICTION] = None
            others += 1
        for field in TEXTS:
            sample[field] = getattr(item, field)
        if item.predicted is not None:
            sample[PREDICTION] = fo.Classification(label=item.predicted, confidence=item.probability)
        if path in known:
            sample.save()
        else:
            dataset.add_sample(sample)
            new += 1
    return new, others


def labels(name: str, field: str = LABEL) -> Iterator[tuple[dict[str, object], list[str]]]:
    """Yield the data of each photograph of the dataset `name`, and its labels: none or one.

    Raises ThawError if there is no such dataset, or if its field `field` is no Classification.
    """
    import fiftyone as fo

    datasets = fo.list_datasets()
    if name not in datasets:
        raise ThawError(f"FiftyOne has no dataset {name!r}{did_you_mean(name, datasets) if datasets else ''}")
    dataset = fo.load_dataset(name)
    fields = dataset.get_field_schema(embedded_doc_type=fo.Classification)
    if field not in fields:
        hint = did_you_mean(field, fields) if fields else ""
        raise ThawError(f"the FiftyOne dataset {name!r} has no field {field!r} of the type Classification{hint}")
    schema = dataset.get_field_schema()
    texts = [text for text in TEXTS if text in schema]
    for path, label, *values in zip(*dataset.values(["filepath", f"{field}.label", *texts]), strict=True):
        yield {"path": path} | dict(zip(texts, values, strict=True)), [label] if label else []
