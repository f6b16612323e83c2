"""A check of values against a JSON Schema, as far as the schemas of the tests need it."""

import re
from collections.abc import Iterator

TYPES = {"array": list, "object": dict, "string": str, "number": (int, float)}
KNOWN = {
    "$schema", "title", "type", "minItems", "items", "required", "additionalProperties", "properties", "pattern",
    "const", "minimum", "maximum",
}  # fmt: skip


def faults(value: object, schema: dict, place: str = "$") -> Iterator[str]:
    """Yield what in a value is not as the schema says."""
    assert schema.keys() <= KNOWN, f"not checked here: {schema.keys() - KNOWN}"
    if "const" in schema and value != schema["const"]:
        yield f"{place} should be {schema['const']!r}, not {value!r}"
    if "type" in schema and (not isinstance(value, TYPES[schema["type"]]) or isinstance(value, bool)):
        yield f"{place} should be a {schema['type']}, not {value!r}"
        return
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{place} should match {schema['pattern']}, not {value!r}"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{place} is out of range: {value!r}"
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{place} has too few entries"
        for number, item in enumerate(value):
            yield from faults(item, schema.get("items", {}), f"{place}[{number}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        yield from (f"{place} has no {name}" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            if name in properties:
                yield from faults(item, properties[name], f"{place}.{name}")
            elif schema.get("additionalProperties") is False:
                yield f"{place} has {name}, which is not known"
