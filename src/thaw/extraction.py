"""What both extractions do: every planned view of every photograph through the frozen part, into one array."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from thaw import arrays, inference, tables, views
from thaw.params import Image

Run = Callable[[inference.Batches], Iterator[np.ndarray]]


def engine(backbone: Path, layer: str, image: Image) -> Run:
    """Return the frozen part up to `layer` on the engine that the parameters name."""
    if image.engine == "openvino":
        return inference.openvino(backbone / "backbone.xml", layer, image.size)
    return inference.tensorflow(backbone / "backbone.keras", layer)


def extract(raw: Path, split: Path, augmentations: Path, image: Image, run: Run, output: Path) -> tuple[int, ...]:
    """Write the output of `run` for every view as the array `output`; beside it, `rows.csv` says what its rows show
    and `classes.json` in which order a model answers.

    The photographs stand in the order of their ids, each first plain (copy 0), then its planned copies. Returns the
    array's shape.
    """
    image_ids = tables.read(split, tables.SPLIT).sort("image_id")["image_id"]
    plan = tables.read(augmentations, tables.ROWS)
    rows = pl.concat([image_ids.to_frame().with_columns(copy=pl.lit(0, pl.Int64)), plan.select("image_id", "copy")])
    tables.write(rows.sort("image_id", "copy"), output.parent / "rows.csv")
    classes = json.loads((raw / "source.json").read_text(encoding="utf-8"))["classes"]
    (output.parent / "classes.json").write_text(json.dumps(classes, ensure_ascii=False) + "\n", encoding="utf-8")

    paths = dict(tables.read_images(raw).select("image_id", "path").iter_rows())
    plans = plan.sort("image_id", "copy").partition_by("image_id", as_dict=True)
    drawn = views.draw(
        (raw / paths[image_id] for image_id in image_ids),
        (plans[image_id,].to_dicts() if (image_id,) in plans else [] for image_id in image_ids),
        image.size,
        image.resize,
    )
    with tqdm(desc=output.stem, total=len(rows), disable=None, unit="image") as bar:

        def counted() -> Iterator[np.ndarray]:
            for batch in run(inference.rebatch(drawn)):
                bar.update(len(batch))
                yield batch

        return arrays.write_rows(output, counted(), len(rows))
