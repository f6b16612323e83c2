"""Which columns of a person's table name the photographs and their classes, where they have other names than usual."""

from pathlib import Path

from thaw.core.section import Section
from thaw.guide.settings import Decision
from thaw.sources import table_reading

NAMES = {  # of a column, in lower case, by what it is for; those of LESS_USUAL where there is none of these
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_name",
             "image_file", "img", "img_path", "photo", "photograph", "picture"),
    "label": ("label", "labels", "label_name", "class", "class_name", "category", "target", "species"),
}  # fmt: skip
LESS_USUAL = {
    "path": ("filepaths", "filenames", "image_id", "imageid", "id_code"),
    "label": ("classid", "class_id", "choice", "breed", "diagnosis", "dx", "variety", "genus"),
}


def decide(path: Path, section: Section) -> list[Decision]:
    """Return which columns are to be named in the parameters: none where the table has the named one.

    A column is taken if it alone has one of NAMES, or of LESS_USUAL. Else the source says which one is missing. Where
    the table has the usual one beside the named one, the named one stays, and a line says so.

    Args:
        path: of the table.
        section: `download.table` of the parameters.

    Raises:
        ThawError: the table cannot be read.
    """
    decisions, columns = [], table_reading.read(path, str(path)).columns
    for purpose, names in NAMES.items():
        named = getattr(section, f"{purpose}_column")
        usual = [column for column in columns if column.lower() in names]
        usual = usual or [column for column in columns if column.lower() in LESS_USUAL[purpose]]
        if named != purpose and named in columns and purpose in columns:
            why = f"{purpose} would suit: the table has that column, too"
            decisions.append(Decision(f"download.table.{purpose}_column", named, named, why))
        elif len(usual) == 1 and named.lower() not in (column.lower() for column in columns):
            why = f"the table has no column {named}"
            decisions.append(Decision(f"download.table.{purpose}_column", named, usual[0], why))
    return decisions
