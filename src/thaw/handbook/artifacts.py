"""The page of all artifacts: what each stage writes, the columns of its tables, and the keys of its JSON files."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from thaw.core.errors import ThawError
from thaw.handbook import reruns


def page(stages: Mapping[str, Mapping], descriptions: Mapping[str, Mapping]) -> str:
    """Return the page.

    Args:
        stages: of dvc.yaml.
        descriptions: `files`: what each output is, by its path or a pattern; `columns` and `keys`: by path, what each
            column of a table and each key of a JSON file is.

    Raises:
        ThawError: An output is described not at all or twice, or what is described is no output.
    """
    files = descriptions["files"]
    check(stages, files)
    lines = []
    for name, stage in stages.items():
        lines += [f"## {name}", "", f"{stage['desc']}.", "", "| file | what it is |", "| --- | --- |"]
        patterns = dict.fromkeys(pattern for path in reruns.outputs(stage) for pattern in matching(path, files))
        lines += [*(f"| `{pattern}` | {files[pattern]} |" for pattern in patterns), ""]
    for kind, heading in (("columns", "Columns of the tables"), ("keys", "Keys of the JSON files")):
        lines += [f"## {heading}", ""]
        for path, names in descriptions[kind].items():
            lines += [f"### `{path}`", "", f"| {kind[:-1]} | meaning |", "| --- | --- |"]
            for name, meaning in names.items():
                lines.append(f"| {', '.join(f'`{part}`' for part in split_names(name))} | {meaning} |")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def check(stages: Mapping[str, Mapping], files: Mapping[str, str]) -> None:
    """Raise ThawError if an output is not described exactly once, or what is described is no output."""
    outputs = [path for stage in stages.values() for path in reruns.outputs(stage)]
    found = {path: matching(path, files) for path in outputs}
    if bare := [path for path, patterns in found.items() if not patterns]:
        raise ThawError(f"nothing says what these outputs of dvc.yaml are: {', '.join(bare)}")
    if twice := [path for path, patterns in found.items() if len(patterns) > 1]:
        raise ThawError(f"described twice: {', '.join(twice)}")
    used = {pattern for patterns in found.values() for pattern in patterns}
    if unused := [pattern for pattern in files if pattern not in used]:
        raise ThawError(f"no output of dvc.yaml: {', '.join(unused)}")


def matching(path: str, patterns: Mapping[str, str]) -> list[str]:
    return [pattern for pattern in patterns if fnmatchcase(path, pattern)]


def split_names(names: str) -> list[str]:
    """Return the single names of an entry that describes several columns or keys."""
    return [name.strip() for name in names.split(",")]
