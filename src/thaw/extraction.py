"""What both extractions do: every planned view of every photograph through the frozen part, into one array.

And what takes that array's place where it does not fit on the disk: the same output, computed when it is asked for.
"""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from thaw import arrays, inference, tables, views
from thaw.errors import ThawError
from thaw.files import read_json
from thaw.params import Image

Run = Callable[[inference.Batches], Iterator[np.ndarray]]
Shapes = dict[str, tuple[int, ...]]  # of one output of each cut point; of one photograph under None


def sized(image: Image, backbone: Path) -> Image:
    """Return `image` with the size that the backbone was trained on where it names none."""
    if image.size is not None:
        return image
    return image.model_copy(update={"size": read_json(backbone / "backbone.json")["size"]})


def engine(backbone: Path, layer: str | None, image: Image) -> Run:
    """Return the frozen part up to `layer` on the engine that the parameters name; with None the pixels pass."""
    if layer is None:
        return iter
    if image.engine == "openvino":
        return inference.openvino(backbone / "backbone.xml", layer, image.size)
    return inference.tensorflow(backbone / "backbone.keras", layer)


class Views:
    """Every view to be seen of every photograph: `rows` lists `image_id` and `copy`, 0 for the plain photograph.

    The photographs stand in the order of their ids, each first plain, then its planned copies.
    """

    def __init__(self, raw: Path, split: Path, augmentations: Path, image: Image):
        plain = tables.read(split, tables.SPLIT).select("image_id", copy=pl.lit(0, pl.Int64))
        self._plan = tables.read(augmentations, tables.ROWS)
        copies = self._plan.select("image_id", "copy").with_row_index("planned")
        self._rows = pl.concat([plain, copies], how="diagonal").sort("image_id", "copy")
        self._paths = dict(tables.read_images(raw).select("image_id", "path").iter_rows())
        self._raw, self._image = raw, image

    @property
    def rows(self) -> pl.DataFrame:
        return self._rows.select("image_id", "copy")

    def draw(self, rows: np.ndarray | slice = slice(None)) -> Iterator[np.ndarray]:
        """Yield the views of `rows` as `views.draw` does; those of a photograph that follow one another, at once."""
        runs = self._rows[rows].group_by(pl.col("image_id").rle_id().alias("run"), maintain_order=True)
        photographs = runs.agg(pl.col("image_id").first(), pl.col("planned"))
        return views.draw(
            (self._raw / self._paths[image_id] for image_id in photographs["image_id"]),
            (
                [None if planned is None else self._plan.row(planned, named=True) for planned in of_photograph]
                for of_photograph in photographs["planned"]
            ),
            self._image.size,
            self._image.resize,
        )


def describe(folder: Path, raw: Path, rows: pl.DataFrame) -> None:
    """Write beside an array what its rows show, `rows.csv`, and in which order a model answers, `classes.json`."""
    tables.write(rows, folder / "rows.csv")
    classes = read_json(raw / "source.json")["classes"]
    (folder / "classes.json").write_text(json.dumps(classes, ensure_ascii=False) + "\n", encoding="utf-8")


def extract(seen: Views, run: Run, output: Path) -> tuple[int, ...]:
    """Write the output of `run` for every view as the array `output`; return its shape."""
    with tqdm(desc=output.stem, total=len(seen.rows), disable=None, unit="image") as bar:

        def counted() -> Iterator[np.ndarray]:
            for batch in run(inference.rebatch(seen.draw())):
                bar.update(len(batch))
                yield batch

        return arrays.write_rows(output, counted(), len(seen.rows))


def check_space(folder: Path, rows: int, layer: str | None, shapes: Shapes, remedy: str) -> str:
    """Return the size of the array that so many outputs of `layer` make, in words, before they are computed.

    Raises ThawError where they do not fit on the disk of `folder`: how much is needed and what is free, which deeper
    cut point would fit, and the `remedy` besides.
    """
    free = shutil.disk_usage(folder).free
    needed = {name: rows * prod(shape) * (2 if name else 1) for name, shape in shapes.items()}  # float16; uint8 pixels
    if needed[layer] <= free:
        return size_text(needed[layer])
    deeper = list(shapes)[list(shapes).index(layer) + 1 :]
    fitting = next((f"{name} would need {size_text(needed[name])}; " for name in deeper if needed[name] <= free), "")
    raise ThawError(
        f"{rows:,} outputs of {layer or 'the input'}, {shape_text(shapes[layer])} each, need "
        f"{size_text(needed[layer])} of disk, and {size_text(free)} are free: {fitting}{remedy}"
    )


def size_text(size: int) -> str:
    if size < 1e6:
        return f"{size / 1e3:,.0f} kB"
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def shape_text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def open_activations(folder: Path, raw: Path, split: Path, augmentations: Path, backbone: Path):
    """Return the activations that `folder` describes: the array in it, or with `fine_tune.cache: false` what computes
    its rows when they are asked for."""
    if (folder / "activations.npy").exists():
        return arrays.open_rows(folder / "activations.npy")
    cut = read_json(folder / "cut.json")
    image = Image(**cut["image"])
    return Recomputed(Views(raw, split, augmentations, image), backbone, cut["layer"], image)


class Recomputed:
    """The output of the frozen layers, computed anew for the rows asked for: what the array would hold, to the bit."""

    def __init__(self, seen: Views, backbone: Path, layer: str | None, image: Image):
        self._views, self._axes = seen, ()
        self._run = engine(backbone, layer, image)
        shapes = inference.output_shapes(backbone / "backbone.xml", [layer] if layer else [], image.size)
        self.shape = (len(seen.rows), *shapes[layer])
        self.dtype = np.dtype(np.float16 if layer else np.uint8)

    def turned(self, axes: tuple[int, ...]) -> "Recomputed":
        """Return the same of views that are turned round along `axes` of (n, height, width, channels)."""
        twin = copy.copy(self)
        twin._axes = axes
        return twin

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the outputs of an array of row numbers: (len(rows), ...)."""
        views = (np.flip(view, self._axes) for view in self._views.draw(rows))
        outputs = np.concatenate(list(self._run(inference.rebatch(views))))
        if outputs.dtype.kind == "f" and not np.isfinite(outputs).all():
            raise ThawError(f"an output of the frozen layers is not finite or too large for {outputs.dtype}")
        return outputs
