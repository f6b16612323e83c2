"""The page of all parameters: what each may be, from its model, and what it means, from the comments of params.yaml."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import BaseModel

from thaw.core.errors import ThawError
from thaw.core.params import flatten
from thaw.core.section import as_written
from thaw.handbook.reruns import covers

KEY = re.compile(r"(?P<indent> *)(?P<name>\w+):(?P<rest>.*)")
COMMENT = re.compile(r"(?:^|\s)#\s?(?P<text>.*)")
LISTED_VALUES = 12  # of a parameter with more, the number is said
NOUNS = {"a text": "texts", "`true` or `false`": "`true` and `false`"}  # of the items of a list


class Comments(NamedTuple):
    """What params.yaml says of its keys."""

    keys: dict[str, str]  # dotted name → its comment
    notes: dict[str, str]  # dotted name → the comment line above it, which is for it and those that follow


def read_comments(text: str) -> Comments:
    """Return the comments of params.yaml: on the line of a key, and on the lines below it that are indented further."""
    keys: dict[str, list[str]] = {}
    notes: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    name, note = "", []
    for line in text.splitlines():
        comment = COMMENT.search(line)
        said = [comment["text"].strip()] if comment else []
        if line.lstrip().startswith("#"):
            if name and len(line) - len(line.lstrip()) > path[-1][0]:
                keys[name] += said
            elif path:
                note += said
        elif match := KEY.match(line):
            path = [*(part for part in path if part[0] < len(match["indent"])), (len(match["indent"]), match["name"])]
            name = ".".join(part for _, part in path)
            keys[name] = said
            if note:
                notes[name], note = " ".join(note), []
        elif said:
            keys[name] += said
    return Comments({name: " ".join(lines) for name, lines in keys.items()}, notes)


def page(text: str, values: Mapping, model: type[BaseModel], sections: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        text: of params.yaml.
        values: of it, as sections within sections.
        model: of all sections.
        sections: What each is for, by its name.

    Raises:
        ThawError: A parameter has no comment.
    """
    comments, schema = read_comments(text), model.model_json_schema()
    defaults = dict(flatten(values))
    if bare := [name for name in defaults if not comments.keys.get(name)]:
        raise ThawError(f"params.yaml says nothing of {', '.join(bare)}: add a comment")
    lines, last, notes = [], "", dict(comments.notes)
    for name, default in defaults.items():
        section, _, key = name.partition(".")
        if section != last:
            last = section
            lines += [f"## {section}", ""]
            if section in sections:
                lines += [sections[section], ""]
        for place in [place for place in notes if covers(place, name)]:
            lines += [notes.pop(place), ""]
        part = _property(schema, name)
        if key:
            lines += [f"### `{name}`", ""]
        lines += [_meaning(comments.keys[name], _values(part, schema)), ""]
        lines += [f"Default: {_code(default)}. May be {_joined([*_kinds(part, schema)])}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _property(schema: Mapping, name: str) -> Mapping:
    for part in name.split("."):
        schema_of = schema.get("properties") or _reference(schema, schema)["properties"]
        found = schema_of[part]
        definitions = schema["$defs"]
        if "$ref" in found:
            found = definitions[found["$ref"].rpartition("/")[2]]
        schema = found | {"$defs": definitions}
    return schema


def _reference(part: Mapping, schema: Mapping) -> Mapping:
    return schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def _kinds(part: Mapping, schema: Mapping) -> Iterator[str]:
    """Yield what a value may be, in words."""
    part = _reference(part, schema)
    if "anyOf" in part:
        for kind in part["anyOf"]:
            yield from _kinds(kind, schema)
    elif values := part.get("enum", [part["const"]] if "const" in part else []):
        yield from map(_code, values) if len(values) <= LISTED_VALUES else [f"one of {len(values)} names"]
    elif part.get("type") in ("integer", "number"):
        yield ("a whole number" if part["type"] == "integer" else "a number") + _range(part)
    elif part.get("type") == "array":
        items = [*_kinds(part.get("items", {}), schema)]
        yield f"a list of {NOUNS.get(items[0]) or f'these: {_joined(items)}'}"
    else:
        yield {"boolean": "`true` or `false`", "string": "a text", "null": "`null`"}.get(part.get("type"), "a value")


def _values(part: Mapping, schema: Mapping) -> set[str]:
    """Return the words that a value may be."""
    kinds = [part, *part.get("anyOf", [])]
    return {str(value) for kind in kinds for value in _reference(kind, schema).get("enum", [])} | {"true", "false"}


def _joined(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _range(part: Mapping) -> str:
    low, high = part.get("minimum"), part.get("maximum")
    above, below = part.get("exclusiveMinimum"), part.get("exclusiveMaximum")
    low_words = f"from {low:,}" if low is not None else f"above {above:,}" if above is not None else ""
    high_words = f"to {high:,}" if high is not None else f"below {below:,}" if below is not None else ""
    return "".join(f" {words}" for words in (low_words, high_words) if words)


def _code(value: object) -> str:
    if isinstance(value, list):
        return f"`[{', '.join(str(as_written(item)).strip(chr(39)) for item in value)}]`"
    return f"`{as_written(value).strip(chr(39))}`"


def _meaning(comment: str, values: set[str]) -> str:
    """Return a comment as a sentence, or as a list where ` · ` divides what single values mean."""
    first, *others = comment.split(" · ")
    if not others or not all(": " in part for part in others):
        return _sentence(comment, values)
    lead = re.fullmatch(r"(.+): (\w+: .+)", first)
    if lead and lead[2].partition(":")[0] in values:
        return "\n".join([f"{_sentence(lead[1], values)[:-1]}:", "", *map(_item, [lead[2], *others])])
    if ": " not in first:
        return "\n".join([_sentence(first, values), "", *map(_item, others)])
    return "\n".join(map(_item, [first, *others]))


def _item(part: str) -> str:
    return f"- {_named(part)}"


def _named(part: str) -> str:
    """Return `word: what it means` with the word as code."""
    match = re.match(r"([\w.+-]+(?:\(\w+\))?):\s", part)
    return f"`{match[1]}`: {part[match.end() :]}" if match else part


def _sentence(comment: str, values: set[str]) -> str:
    """Return a comment as a sentence: it begins with a capital where it is a word, and ends with a full stop."""
    first = comment.split(maxsplit=1)[0].strip(";,")
    if first.isalpha() and first.islower() and first not in values:
        comment = comment[0].upper() + comment[1:]
    elif first.endswith(":"):
        comment = _named(comment)
    return comment if comment.endswith((".", "?")) else f"{comment}."
