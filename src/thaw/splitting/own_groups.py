"""The groups that a person names, whose photographs are never divided: columns such as patient, site or camera."""

import polars as pl

from thaw.core.columns import EMPTY_WORDS, as_groups, check_groups, check_name

OWN = "meta_group"  # the column of groups that a source itself gives
ALIKE = "near-duplicates"  # begins the name of a group that no person has named
MAX_FRACTION = 0.5  # of the photographs in one group: a larger one is worth a warning, and cannot be a fold


def read(images: pl.DataFrame, columns: list[str]) -> tuple[list[pl.Series], list[str]]:
    """Return the values of each column of groups, and warnings about them, each a few words.

    The first series is that of the first column that is named. An empty value puts a photograph into no group.

    Args:
        images: images.csv. The column `meta_group` counts too if it is there.
        columns: Those that `split.group` names.

    Raises:
        ThawError: A column is missing or empty, or has one value alone.
    """
    also = [OWN] if OWN in images.columns and OWN not in columns else []
    named = [_column(images, column) for column in [*dict.fromkeys(columns), *also]]
    warnings = [warning for values in named for warning in _warnings(values, values.name in columns)]
    return named, warnings + [note for values in named for note in _empty_words(images[values.name])]


def largest(images: pl.DataFrame) -> tuple[str, int]:
    """Return what names the largest group of images, and its size: the value of an own group, else one of its images.

    images: `image_id`, `group` and `own_group`.
    """
    group = images["group"].value_counts().sort("count", "group", descending=[True, False])["group"][0]
    members = images.filter(pl.col("group") == group)
    values = members.filter(pl.col("own_group") != "")["own_group"]
    return repr(values.mode().min()) if len(values) else f"{ALIKE} of {members['image_id'].min()}", len(members)


def stays_whole(group: str) -> str:
    """Say that a group, as `largest` names it, is never divided, and what helps."""
    remedy = ", unless split.group_duplicates is false: for photographs that only look alike" if ALIKE in group else ""
    return f"which is never divided{remedy}"


def _column(images: pl.DataFrame, column: str) -> pl.Series:
    check_name(column, images.columns, "split.group")
    return pl.Series(column, as_groups(images[column].to_list()), pl.String)


def _empty_words(values: pl.Series) -> list[str]:
    words = values.drop_nulls().filter(values.drop_nulls().str.to_lowercase().is_in(list(EMPTY_WORDS)))
    if words.is_empty():
        return []
    return [f"{len(words):,} values of {values.name} count as empty: {', '.join(sorted(set(words)))}"]


def _warnings(values: pl.Series, is_named: bool) -> list[str]:
    name, filled = values.name, values.filter(values != "")
    check_groups(name, values.to_list(), is_named)
    if filled.is_empty():
        return []
    value, size = filled.value_counts().sort("count", name, descending=[True, False]).row(0)
    found = []
    if size > MAX_FRACTION * len(values):
        found.append(f"{size / len(values):.0%} of the photographs have the {name} {value!r}: they are one group")
    if is_named and len(filled) < len(values):
        found.append(f"photographs without a {name}: {len(values) - len(filled):,}, each a group of its own")
    if is_named and size == 1:
        found.append(f"no two photographs have the same {name}: it groups nothing")
    return found
