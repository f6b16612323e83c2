"""Names of classes: one form of Unicode, and no two that a person cannot tell apart."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from thaw.core.encodings import REORDERING, seen, shown
from thaw.core.errors import ThawError
from thaw.core.words import listed
from thaw.sources.base import is_one_line
from thaw.sources.own_files import names_no_class

JOINERS = dict.fromkeys(map(ord, "\u200c\u200d\ufe0e\ufe0f"))
ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")  # before a number: 01
JOINING = re.compile(r"[;,|/&+]")  # what may stand between several classes in one name


def composed(name: str) -> str:
    """Return the name in its composed Unicode form (NFC): `é` is one character, whatever system wrote it."""
    return unicodedata.normalize("NFC", name)


def composition_notes(names: Iterable[str]) -> list[str]:
    """Say which of the names, as people wrote them, `composed` has united or changed."""
    forms: dict[str, set[str]] = defaultdict(set)
    for name in names:
        forms[composed(name)].add(name)
    united = sorted(name for name, written in forms.items() if len(written) > 1)
    changed = sorted(name for name, written in forms.items() if len(written) == 1 and name not in written)
    notes = [f"names in two Unicode forms are one class: {listed(united)}"] if united else []
    return notes + ([f"class names written in their composed Unicode form: {listed(changed)}"] if changed else [])


def fault(name: str) -> str:
    """Return why a name cannot name a class; an empty text if it can.

    Exported files have a label in each line. A character that turns a line around would show another class, and other
    figures, than a line has.
    """
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "has half a character (a lone surrogate)"
    if not is_one_line(name):
        return "cannot be printed on one line"
    if not seen(name).strip():
        return "shows nothing"
    reordering = sorted(REORDERING.intersection(name))
    return f"has the character U+{ord(reordering[0]):04X}, which turns around what follows it" if reordering else ""


def check(classes: Iterable[str], what: str) -> list[str]:
    """Return warnings about classes that differ in case, spaces, hyphens, zeros before a number or kinds of characters
    alone, or have unseen characters.

    Args:
        classes: their names, composed.
        what: where the names are, for the error.

    Raises:
        ThawError: two names look the same: they differ in spaces or in characters that nobody sees.
    """
    classes = sorted(set(classes))
    for same in _groups(classes, _appearance):
        raise ThawError(f"{what} has the classes {' and '.join(map(repr, same))}, which look the same: rename one")
    pairs = [" and ".join(map(repr, names)) for names in _groups(classes, _likeness)]
    unseen = [shown(name) for name in classes if seen(name) != name]
    warnings = [f"classes that differ in little: {listed(pairs)}"] if pairs else []
    return warnings + ([f"class names with characters that nobody sees: {listed(unseen)}"] if unseen else [])


def joined(classes: Iterable[str]) -> str:
    """Name the classes that may be several in one cell, such as 'cat;dog' beside 'cat' and 'dog'; empty if none may."""
    classes = sorted(set(classes))
    parts = {name: [part.strip() for part in JOINING.split(name)] for name in classes}
    found = [name for name, of_name in parts.items() if len(of_name) > 1 and set(of_name) <= set(classes)]
    return listed([f"{name!r} beside {' and '.join(map(repr, parts[name]))}" for name in found])


def check_subsets(subsets: Mapping[str, set[str]], what: str) -> list[str]:
    """Return a warning if a subset shares no class with the others, as where `test/images` has no labels.

    Args:
        subsets: the subsets that have each class.
        what: where the classes are.

    Raises:
        ThawError: two classes that differ in little are in no subset both: they are one, written in two ways; or a
            subset has none but folders such as `images`, which name no class.
    """
    for names in _groups(sorted(subsets), _likeness):
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                if subsets[one].isdisjoint(subsets[other]):
                    where = [f"{name!r} in {' and '.join(sorted(subsets[name]))}" for name in (one, other)]
                    raise ThawError(f"{what} has the class {' and '.join(where)}: give both the same name")
    for subset in sorted(set().union(*subsets.values())):
        inside = sorted(name for name in subsets if subset in subsets[name])
        rest = sorted(name for name in subsets if subsets[name] != {subset})
        if rest and not set(inside) & set(rest):
            for names in (inside, rest):
                if all(map(names_no_class, names)):
                    where = " and ".join(sorted(set().union(*(subsets[name] for name in names))))
                    raise ThawError(
                        f"{what}: the photographs of {where} lie in {listed(names)}, and no class has such a name: "
                        "put them into a folder for each class, or elsewhere"
                    )
            return [f"{subset} has the classes {listed(inside)}, and none of the other splits' ({listed(rest)})"]
    return []


def _groups(classes: list[str], key) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        groups[key(name)].append(name)
    return [names for names in groups.values() if len(names) > 1]


def _appearance(name: str) -> str:
    return " ".join(seen(composed(name)).split())


def _likeness(name: str) -> str:
    plain = seen(unicodedata.normalize("NFKC", name).casefold()).translate(JOINERS)
    return ZEROS.sub("", re.sub(r"[\s_\-\u2010-\u2015]+", " ", plain).strip())
