"""The columns of the photographs that parameters name: `meta_…` of images.csv."""

from collections.abc import Collection, Sequence

from thaw.core.errors import ThawError, did_you_mean

ADDED = "added"  # in the column `source`: a photograph of `download.added`
EMPTY_WORDS = frozenset({"na", "n/a", "nan", "<na>", "null", "none"})  # what R, pandas and others write for no value


def check_name(column: str, columns: Collection[str], parameter: str, others: Sequence[str] = ()) -> None:
    """Raise ThawError if there is no such column; `others`: what else the parameter may name."""
    if column not in columns:
        valid = [*others, *(name for name in columns if name.startswith("meta_"))]
        hint = did_you_mean(column, valid) if valid else ""
        raise ThawError(f"{parameter}: the photographs have no column {column}{hint}; a table's column needs that name")


def check_each_is_in_a_group(values: Sequence[str | None]) -> None:
    """Raise ThawError if a photograph is in no group, where each group is to be a fold."""
    if empty := sum(not value for value in values):
        raise ThawError(
            f"split.folds: groups: {empty:,} photographs are in no group: each needs one, in the column that "
            "split.group names, or in the column group of a table"
        )


def as_groups(values: Sequence[str | None]) -> list[str]:
    """Return the values of a column as names of groups: one that is missing, or a word for that, is an empty text."""
    return ["" if value is None or value.lower() in EMPTY_WORDS else value for value in values]


def check_groups(column: str, values: Sequence[str | None], is_named: bool) -> None:
    """Raise ThawError if a column puts all photographs into one group or, where `split.group` names it, into none."""
    filled = {value for value in values if value}
    if is_named and not filled:
        raise ThawError(f"split.group: the column {column} is empty for all photographs: it groups nothing")
    if len(filled) == 1 and all(values):
        raise ThawError(
            f"the column {column} is {values[0]!r} for all photographs: a group is never divided, so nothing could be "
            "tested"
        )
