"""What the sources of images with several labels share: what is known of each class, and whether it is enough."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from thaw.core.errors import ThawError
from thaw.sources import class_names
from thaw.sources.base import Known, SourceImage

SEPARATOR = " + "  # as in `core.label_values`, whose packages are not needed here
NO_KNOWN_LABEL = "no label of it is known"
MIN_KNOWN = 3  # images that show a class, and as many that do not: one trains, one validates, one tests


def with_unlisted(known: Mapping[str, Known], classes: Sequence[str], unlisted: str, weight: float) -> tuple:
    """Return what is known of an image as a tuple of Known, in the order of the classes.

    Args:
        known: by class, what its owner lists.
        classes: all of them.
        unlisted: `absent` or `unknown`: what the other classes are.
        weight: of the other classes, where they are absent.
    """
    others = {name: Known(name, False, weight) for name in classes} if unlisted == "absent" else {}
    all_known = others | known
    return tuple(all_known[name] for name in classes if name in all_known)


def unlisted_note(images: Iterable[SourceImage], listed: int, classes: Sequence[str], unlisted: str) -> str:
    """Say what is assumed of the pairs of an image and a class that nobody lists; `listed`: how many pairs are."""
    used = sum(not image.left_out for image in images)
    return f"{used * len(classes) - listed:,} pairs of a photograph and a class are not listed, and taken as {unlisted}"


def check_names(classes: Sequence[str], name: str) -> list[str]:
    """Return warnings about the names of the classes; raises ThawError if there is none, or one cannot be used."""
    if not classes:
        raise ThawError(f"{name} holds no label: at least one class is needed")
    for label in classes:
        if fault := _joins(label) or class_names.fault(label):
            raise ThawError(f"{name}: the label {label!r} {fault}: it cannot name a class")
    return class_names.check(classes, name)


def _joins(label: str) -> str:
    """Say why a name cannot be joined with others by SEPARATOR and taken apart again; empty if it can."""
    if SEPARATOR in label:
        return "has ' + ' in it, which joins several"
    return "begins or ends with a + that stands alone: ' + ' joins several" if SEPARATOR in f" {label} " else ""


def check_every_class(images: Iterable[SourceImage], classes: Sequence[str], name: str, remedy: str = "") -> None:
    """Raise ThawError if too few images are known to show a class, or known not to.

    Args:
        images: those that are left out do not count.
        classes: names.
        name: of the source, for the error.
        remedy: what a person may do about it, for the error.
    """
    known = (known for image in images if not image.left_out for known in image.known if known.weight)
    counts = Counter((known.label, known.is_present) for known in known)
    for label in classes:
        for is_present, words in ((True, "to show"), (False, "not to show")):
            count = counts[label, is_present]
            if count < MIN_KNOWN:
                number = f"only {count} photographs" if count > 1 else "only 1 photograph" if count else "no photograph"
                verb = "are" if count > 1 else "is"
                raise ThawError(
                    f"{name}: {number} {verb} known {words} the class {label!r}: {MIN_KNOWN} or more are needed, to "
                    f"train, validate and test{remedy}"
                )
