"""Keras models in files: the same model gives the same bytes, and the file holds its metadata, such as class names."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from thaw.core.files import atomic_file
from thaw.core.keras_file import as_one_line, read_metadata
from thaw.engines import openvino_layer, transformer_layers  # noqa: F401  a file may have such layers
from thaw.engines.keras_internals import save_weights_at_once
from thaw.engines.keras_setup import keras

save_weights_at_once()


def save(model: keras.Model, path: Path, metadata: Mapping[str, object]) -> None:
    """Write `model` as a `.keras` file, with `metadata` (such as `class_names`) in its `metadata.json`.

    Keras writes the date and the memory addresses of shared objects. Both are removed, so that equal models are equal
    files. If writing fails, the path keeps what it had.
    """
    with atomic_file(path) as temporary:
        written = temporary.with_name(f"{temporary.name}.keras")  # Keras accepts no other ending
        try:
            model.save(written)
            with zipfile.ZipFile(written) as source, zipfile.ZipFile(temporary, "w") as target:
                for name in sorted(source.namelist()):
                    data = source.read(name)
                    if name == "metadata.json":
                        version = json.loads(data)["keras_version"]
                        data = _to_json({"keras_version": version, "date_saved": "", **metadata})
                    elif name == "config.json":
                        data = _to_json(_number_shared_objects(json.loads(data), {}))
                    target.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), data)
        finally:
            written.unlink(missing_ok=True)


def load(path: Path) -> tuple[keras.Model, dict[str, object]]:
    """Return the model of a file that `save` wrote, and its metadata; raises ThawError for any other file."""
    with as_one_line(path):
        metadata = read_metadata(path)
        return keras.saving.load_model(path, compile=False), metadata


def thawed_part(model: keras.Model, cut: str | None) -> keras.Model:
    """Return the part of `model` behind the layer `cut`, with the same weights; with None, the full model."""
    return keras.Model(model.get_layer(cut).output, model.output) if cut else model


def _to_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _number_shared_objects(value, numbers: dict[int, int]):
    """Replace each `shared_object_id`, a memory address, by its number in the order of appearance."""
    if isinstance(value, list):
        return [_number_shared_objects(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: numbers.setdefault(item, len(numbers))
        if key == "shared_object_id"
        else _number_shared_objects(item, numbers)
        for key, item in value.items()
    }
