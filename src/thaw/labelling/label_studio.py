"""Label Studio: tasks with the model's prediction filled in, the labelling page that fits them, and what it exports.

The forms are those of its documentation: https://labelstud.io/guide/task_format and /guide/predictions. A photograph is
named by the path below the folder that Label Studio serves (`/data/local-files/?d=…`); it must be told to serve it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import quoteattr

from thaw.core.encodings import printable

LOCAL_FILES = "/data/local-files/"
FROM_NAME, TO_NAME = "label", "image"  # of the two tags of the page
UPLOADED = "/data/upload/"  # begins the path of a photograph that a person has uploaded by hand


def task(path: Path, root: Path, data: Mapping[str, object], label: str | None, probability: float | None) -> dict:
    """Return a task.

    Args:
        path: of the photograph.
        root: the folder that Label Studio serves; the photograph lies in it.
        data: what else stands in the task. It is in each export, so that the label finds the photograph again.
        label: the model's prediction; None if there is no model.
        probability: of that class.
    """
    url = f"{LOCAL_FILES}?d={quote(path.relative_to(root).as_posix())}"
    result: dict[str, object] = {"data": {"image": url, **data}}
    if label is not None:
        choice = {
            "id": "answer",
            "type": "choices",
            "from_name": FROM_NAME,
            "to_name": TO_NAME,
            "value": {"choices": [label]},
        }
        result["predictions"] = [{"model_version": "thaw", "score": probability, "result": [choice]}]
    return result


def page(classes: Iterable[str], task_texts: Sequence[str]) -> str:
    """Return the labelling page, which a person pastes into the project: its settings, `Labeling Interface`, `Code`.

    Args:
        classes: to choose from.
        task_texts: the names of data of the tasks that are shown below the photograph.
    """
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    texts = "\n".join(f"  <Text name={quoteattr(name)} value={quoteattr(f'${name}')}/>" for name in task_texts)
    return (
        f'<View>\n  <Image name="{TO_NAME}" value="${TO_NAME}" zoom="true"/>\n'
        f'  <Choices name="{FROM_NAME}" toName="{TO_NAME}" choice="single" showInline="true" required="false">\n'
        f"{choices}\n  </Choices>\n{texts}\n</View>\n"
    )


def is_export(content: object) -> bool:
    """Return whether the content of a JSON file may be an export: JSON, or JSON-MIN."""
    return isinstance(content, list) and all(
        isinstance(entry, dict) and ("data" in entry or "annotation_id" in entry or "image" in entry)
        for entry in content
    )


def labels(tasks: Iterable[Mapping]) -> Iterator[tuple[dict[str, object], list[str]]]:
    """Yield the data of each task of an export, and the labels that people gave it: none, one or several.

    An annotation that was skipped has no label. Of JSON-MIN, each annotation is a task of its own.
    """
    for entry in tasks:
        if not isinstance(entry.get("data"), dict):
            yield dict(entry), _choices(entry)
            continue
        given: list[str] = []
        for annotation in entry.get("annotations") or []:
            if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
                for result in annotation.get("result") or []:
                    value = result.get("value") if isinstance(result, dict) else None
                    given += _texts(value.get("choices") if isinstance(value, dict) else None)
        yield dict(entry["data"]), list(dict.fromkeys(given))


def _choices(row: Mapping) -> list[str]:
    """Return the labels of a row of JSON-MIN: a text, or an object if there are several."""
    value = row.get(FROM_NAME, row.get("choice"))
    return _texts(value.get("choices") if isinstance(value, dict) else value)


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text.strip() for text in values if isinstance(text, str) and text.strip()]


def file_names(image: str) -> list[str]:
    """Return the names that the photograph of a task may have: below a folder, or absolute.

    One that was uploaded has got eight digits and a hyphen before its name.
    """
    try:
        parts = urlsplit(image)
    except ValueError:  # such as http://[
        return []
    if parts.path.rstrip("/") == LOCAL_FILES.rstrip("/"):
        return parse_qs(parts.query).get("d", [])
    if UPLOADED in parts.path:
        name = parts.path.rpartition("/")[2]
        return [name.partition("-")[2] or name, name]
    return [printable(image)] if not parts.scheme else []
