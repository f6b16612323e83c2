"""SavedModel: TensorFlow's folder; the metadata are in `assets.extra`, which TensorFlow leaves to its users."""

import json
from pathlib import Path

from thaw.exports.base import IMAGE, PROBABILITIES, Engine, Format, ModelToExport
from thaw.exports.metadata import LABELS_FILE, label_lines


def write(source: ModelToExport, folder: Path) -> None:
    """Write a model for batches of any length; its signature is `serving_default`."""
    from thaw.exports import graphs

    (folder / "saved_model.pb").write_bytes(graphs.saved_model(graphs.freeze(source.model, source.size)))
    assets = folder / "assets.extra"
    assets.mkdir()
    metadata = json.dumps(source.metadata, ensure_ascii=False, indent=1)
    (assets / "metadata.json").write_text(f"{metadata}\n", encoding="utf-8")
    (assets / LABELS_FILE).write_text(label_lines(source.metadata), encoding="utf-8")


def load(folder: Path) -> Engine:
    """Return a function from (n, size, size, 3) float32 pixels to (n, classes) float32 probabilities."""
    from thaw.engines.tensorflow_setup import tf

    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return lambda pixels: signature(**{IMAGE: tf.constant(pixels)})[PROBABILITIES].numpy()


FORMAT = Format("saved_model", "saved_model", "TensorFlow's SavedModel", write, load)
