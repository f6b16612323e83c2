"""What the sources of one's own files share: values that are given, ids from paths, and files that cannot be read."""

import errno
import hashlib
import math
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from thaw.core.encodings import printable
from thaw.core.errors import ThawError
from thaw.sources.base import SourceImage, UnreachableError

SUBSETS = {  # as people name them
    "train": "train", "training": "train", "trainval": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "devel": "validation", "development": "validation", "eval": "validation", "evaluation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
PLAIN_SUBSETS = {"train", "training", "validation", "valid", "val", "test", "testing"}  # need no word of explanation
FILLERS = {  # words in the name of a subset's folder that say nothing: train_set, test images, 01_train, valid data
    "set", "sets", "data", "dataset", "split", "image", "images", "imgs", "img", "photos", "pictures", "folder",
}  # fmt: skip
PICTURES = {"image", "images", "imgs", "img", "photos", "pictures", "data"}
ENDS = re.compile(r"(?<=.)(set|data|images|imgs)$")  # as in trainset
THOUSANDS = re.compile(r"[1-9]\d{0,2},\d{3}")  # or decimals, in other languages
OWN_META = {"subset": "split", "group": "group"}  # columns `meta_…` of images.csv → what a person calls them
BESIDE = {  # words in the names of folders that lie beside photographs, with what is known of each of them
    "mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentations", "trimap",
    "trimaps", "groundtruth", "ground", "truth", "gt", "segmentationclass", "segmentationobject",
}  # fmt: skip
UNLABELLED = {"unlabelled", "unlabeled", "unsup", "unsupervised", "unlab", "nolabel"}
UNPREDICTED = {"pred", "predict", "prediction", "predictions", "inference", "submission"}  # beside a split


# What the system answers if a disk, or a share on the network, fails as a whole. It says nothing about the file.
LOST = {
    getattr(errno, name)
    for name in (
        "EIO", "ENOTCONN", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET",
        "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "ENODEV", "ENXIO", "ESHUTDOWN", "EREMOTEIO", "ENOLINK",
    )
    if hasattr(errno, name)  # some are Linux' own
}  # fmt: skip


def raise_if_lost(error: OSError, path: Path) -> None:
    """Raise UnreachableError if `error` says that the disk or share with `path` fails as a whole."""
    if error.errno in LOST:
        raise UnreachableError(
            f"{printable(path)} cannot be read ({error.strerror}): the disk or share that holds it does not answer; "
            "run again when it is back"
        ) from None


def status(path: Path) -> os.stat_result | None:
    """Return the status of a file or folder, or None if it is not there or must not be seen.

    Raises UnreachableError if the disk or share fails.
    """
    try:
        return path.stat()
    except OSError as error:
        raise_if_lost(error, path)
        return None
    except ValueError:  # a name with a zero byte
        return None


def is_folder(path: Path) -> bool:
    """Return whether `path` is a folder; raises UnreachableError if the disk or share fails."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def subset_of(name: str) -> tuple[str, str]:
    """Return the subset that the name of a folder, or a value of a table, stands for, and what else the name says.

    `Training`, `01_train`, `train-set`, `trainData` and `train2017` stand for `train` and say nothing else;
    `seg_train` says `seg`. The subset is empty if the name has no word for one, or words for two.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name))
    words = [ENDS.sub("", word) for word in _words(apart)]
    subsets = {SUBSETS[word] for word in words if word in SUBSETS}
    if subsets == {"train", "validation"}:  # both together are what a final model trains on
        subsets = {"train"}
    rest = " ".join(word for word in words if word not in SUBSETS and word not in FILLERS)
    return (subsets.pop(), rest) if len(subsets) == 1 else ("", rest)


def given_subset(text: str, where: str) -> str:
    """Return the subset that a value of `split` stands for, "" for ""; raises ThawError, which names `where`."""
    subset, rest = subset_of(text)
    if text and (not subset or rest):
        raise ThawError(f"{where}: split should be train, validation, test or empty, not {text!r}")
    return subset


def given_weight(text: str, where: str) -> float:
    """Return the number that a value of `weight` stands for, 1 for ""; raises ThawError, which names `where`."""
    if not text:
        return 1.0
    if THOUSANDS.fullmatch(text):
        either = f"{text.replace(',', '')} or {text.replace(',', '.')}"
        raise ThawError(f"{where}: the weight {text!r} may be {either}: write it without a comma")
    try:
        weight = float(text.replace(",", "."))  # spreadsheets write the decimal sign of their language
    except ValueError:
        weight = math.nan
    if "_" in text:  # which Python allows between digits
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise ThawError(f"{where}: weight should be a number from 0, not {text!r}")
    return weight


def check_meta(key: str, name: str) -> None:
    """Raise ThawError if Thaw itself writes the column `meta_{key}`, which a person's column `name` would become."""
    if key in OWN_META:
        raise ThawError(f"{name} means something else in Thaw: call it {OWN_META[key]}")


def is_unlabelled(name: str, split: bool = False) -> bool:
    """Return whether a folder of this name holds photographs without a label; `split`: it lies beside a split."""
    words = [word for word in _words(name) if word not in FILLERS]
    return "".join(words) in UNLABELLED or (split and not (UNLABELLED | UNPREDICTED).isdisjoint(words))


def names_no_class(name: str) -> bool:
    """Return whether a folder of this name holds photographs of any class, or what is known of them, such as masks."""
    words = [ENDS.sub("", word) for word in _words(name)]
    return bool(words) and {*words} <= FILLERS | BESIDE | {"jpeg", "jpg", "png"}


def names_pictures(name: str) -> bool:
    """Return whether a word in a name says that there are pictures, whatever they show."""
    return not PICTURES.isdisjoint(_words(name))


def is_beside(name: str) -> bool:
    """Return whether a folder of this name holds what is known of photographs, such as masks."""
    words = _words(name)
    return bool(words) and {*words} <= BESIDE


def is_labelled(name: str) -> bool:
    return "".join(word for word in _words(name) if word not in FILLERS) in ("labelled", "labeled")


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", name.casefold())


def image_id(file: str, digits: int) -> str:
    """Return a readable name that is safe as a file name, and unique by the hash of the whole relative path `file`."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(file).stem)[:60]
    return f"{readable}-{hashlib.sha256(os.fsencode(file)).hexdigest()[:digits]}"


def with_unique_ids(images: list[SourceImage]) -> list[SourceImage]:
    """Lengthen the ids of images with the same name whose hashes start alike, as happens among a million."""
    counts = Counter(image.image_id for image in images)
    return [
        image if counts[image.image_id] == 1 else replace(image, image_id=image_id(image.file, 32)) for image in images
    ]


def unique_ends(paths: Iterable[str]) -> dict[str, str]:
    """Return the end of each absolute path that tells it from the others: at least its last folder and its name.

    Ids come from these ends where files have no common folder. Paths relative to a common one would all change as soon
    as one file is stored elsewhere.
    """
    ends, undecided, length = {}, set(paths), 2
    while undecided:
        candidates = {path: "/".join(Path(path).parts[-length:]) for path in undecided}
        counts = Counter(candidates.values())
        unique = {path: end for path, end in candidates.items() if counts[end] == 1}
        ends |= unique
        undecided -= unique.keys()
        length += 1
    return ends
