"""Both extractions: every planned view of every image through the frozen layers, into one array.

The cache keeps each row under the hash of all that it rests on, so that the next run computes only what is new. If the
array would not fit on the disk, `Recomputed` replaces it: it computes the same rows when they are read.
"""

import copy
import hashlib
import importlib.metadata
import itertools
import json
import platform
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import PIL.features
import polars as pl

from thaw.core import arrays, hashes, kernels, progress, tables
from thaw.core.cache import Cache, say, size_text
from thaw.core.errors import ThawError
from thaw.core.files import read_json, write_json
from thaw.core.kept_rows import KEY_BYTES, KeptRows
from thaw.core.machine import usable_cores
from thaw.core.store import Photograph, Photographs
from thaw.engines import inference
from thaw.images import augmentation, augmentation_plan, decoding, views

if TYPE_CHECKING:
    from thaw.parameters.image import Image

AUTO = "auto"  # as `image.resize`: crop or squash, as validation decides
COMPUTING = (  # the code on which the bytes of an output rest, beside that of `decoding.CODE`
    *(Path(module.__file__) for module in (augmentation, views, kernels, inference)),
    Path(inference.__file__).with_name("openvino_setup.py"),
    Path(__file__),
)
# Computes these rows of the views, which have these keys, on other machines; yields their outputs in their order.
Elsewhere = Callable[["PlannedViews", np.ndarray, np.ndarray], Iterator[np.ndarray]]
RESIZE = "image.json"  # in the folder of the features: where `image.resize` is auto, the choice, and why; else null


@dataclass(frozen=True)
class ImageSettings:
    """The section `image` of the parameters, with a definite size."""

    size: int  # pixels of each side of a view
    resize: str  # crop, pad or squash, see `decoding.fit`; or auto, which `resolved` replaces
    engine: str  # openvino or tensorflow
    precision: str = "float32"  # or bfloat16: of the frozen layers


@dataclass(frozen=True)
class Dataset:
    """Where the images of a run are, and which views of them are planned."""

    raw: Path  # folder with the images and images.csv
    split: Path  # split.csv
    augmentations: Path  # augmentations.csv
    cache: Cache | None = None  # of decoded pixels, and of the outputs of the frozen layers
    machines: Callable[[Path, str, ImageSettings], Elsewhere] | None = None  # that compute them; None: this one alone


def sized(image: "Image", backbone: Path) -> ImageSettings:
    """Return the settings of `image`. If its size is null, it is the size that the backbone was trained with.

    Raises ThawError if the backbone takes images of another size only.
    """
    description = read_json(backbone / "backbone.json")
    size, only = image.size or description["size"], description["only_size"]
    if only not in (None, size):
        name = description["name"]
        raise ThawError(f"image.size should be {only}, not {size}: {name} takes images of this size alone")
    return ImageSettings(size, image.resize, image.engine, image.precision)


def resolved(image: ImageSettings, features: Path) -> ImageSettings:
    """Return the settings with the `resize` that `extract_features` chose, if it is auto. `features`: what it wrote."""
    return replace(image, resize=read_json(features / RESIZE)["resize"]) if image.resize == AUTO else image


def engine(backbone: Path, layer: str | None, image: ImageSettings, cores: int | None = None) -> inference.Run:
    """Return the frozen layers up to `layer`, on the engine that the settings name. With None, pixels pass through.

    OpenVINO uses `cores` of the processor; None: all.
    """
    if layer is None:
        return iter
    if image.engine == "openvino":
        return inference.compile_openvino(
            backbone / "backbone.xml", layer, image.size, precision=image.precision, cores=cores
        )
    return inference.compile_tensorflow(backbone / "backbone.keras", layer)


def enlarged_text(raw: Path, split: Path, image: ImageSettings) -> str:
    """Say how many photographs are smaller than the views, and by how much they are enlarged; empty if none is."""
    used = tables.read_images(raw).join(tables.read(split, tables.SPLIT), on="image_id", how="semi")
    # As `decoding.fit` scales: `pad` by the long side. `squash` scales both; the short side grows more.
    side = (pl.max_horizontal if image.resize == "pad" else pl.min_horizontal)("width", "height")
    factors = used.select(factor=image.size / side).filter(pl.col("factor") > 1)["factor"]
    if factors.is_empty():
        return ""
    return f"; {len(factors):,} of {len(used):,} photographs are enlarged, by a median factor of {factors.median():.1f}"


class PlannedViews:
    """The views of all images, in the order of the image ids: of each image the plain view, then the augmented ones.

    `rows` lists them, with the columns of `tables.ROWS`. With a `preset`, only its augmented views are among them.
    """

    def __init__(self, dataset: Dataset, image: ImageSettings, preset: str | None = None):
        plain = tables.read(dataset.split, tables.SPLIT).select("image_id", copy=pl.lit(0, pl.Int64))
        self._plan = tables.read(dataset.augmentations, tables.ROWS)
        if preset is not None:
            self._plan = self._plan.filter(preset=preset)
        augmented = self._plan.select(*tables.ROWS).with_row_index("planned")
        self._rows = pl.concat([plain, augmented], how="diagonal").sort("image_id", "copy")
        self._paths = dict(tables.read_images(dataset.raw).select("image_id", "path").iter_rows())
        self._photographs, self._image, self._cache = Photographs(dataset.raw), image, dataset.cache
        self._states: dict[str, tuple[int, ...]] = {}  # of the images whose keys were asked for, before they were read

    @property
    def rows(self) -> pl.DataFrame:
        return self._rows.select(*tables.ROWS)

    @property
    def size(self) -> int:
        """Pixels of each side of a view."""
        return self._image.size

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """Return a hash for each of these rows, (n, KEY_BYTES) uint8: of the image file and of the values of its view.

        Raises ThawError if a file is missing.
        """
        chosen = self._rows[rows]
        image_ids = chosen["image_id"].unique(maintain_order=True).to_list()
        with ThreadPoolExecutor(usable_cores()) as pool:
            self._states |= zip(image_ids, pool.map(self._state, image_ids), strict=True)
            contents = pool.map(hashes.sha256, (self._photographs[self._paths[image_id]] for image_id in image_ids))
            contents = dict(zip(image_ids, map(bytes.fromhex, contents), strict=True))
        plan, keys = self._plan.select(pl.col(augmentation_plan.COLUMNS).cast(pl.Float64)), []
        for block in chosen.iter_slices():
            values = plan.select(pl.all().gather(block["planned"])).to_numpy()  # of a plain view, all are NaN
            for image_id, row in zip(block["image_id"], np.ascontiguousarray(values), strict=True):
                keys.append(view_key(contents[image_id], row))
        return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)

    def check_unchanged(self, rows: np.ndarray) -> None:
        """Raise ThawError if an image of these rows is no longer the file of which `keys` returned the hash."""
        for image_id in self._rows[rows]["image_id"].unique(maintain_order=True):
            if self._state(image_id) != self._states[image_id]:
                path = self._photographs[self._paths[image_id]]
                raise ThawError(f"{path} changed while it was read: nothing that was computed of it is kept; run again")

    def _state(self, image_id: str) -> tuple[int, ...]:
        """Return what mostly tells a file from another one that took its name; raises ThawError if it is missing."""
        photograph = self._photographs[self._paths[image_id]]
        file = photograph if isinstance(photograph, Path) else photograph.folder / photograph.shard
        try:
            status = file.stat()
        except FileNotFoundError:
            raise ThawError(f"{file}: no such file") from None
        return status.st_size, status.st_mtime_ns  # the inode may change on a disk of the network

    def photographs(self, rows: np.ndarray | slice = slice(None)) -> Iterator[tuple[Photograph, views.Plan]]:
        """Yield the photograph and the planned views of each run of these rows that shows one photograph."""
        runs = self._rows[rows].group_by(pl.col("image_id").rle_id().alias("run"), maintain_order=True)
        for image_id, planned_rows in runs.agg(pl.col("image_id").first(), pl.col("planned")).drop("run").iter_rows():
            plan = [None if row is None else self._plan.row(row, named=True) for row in planned_rows]
            yield self._photographs[self._paths[image_id]], plan

    def draw(self, rows: np.ndarray | slice = slice(None)) -> Iterator[np.ndarray]:
        """Yield the views of these rows, as `views.draw` does. Successive views of one image are one array."""
        sources, plans = itertools.tee(self.photographs(rows))
        return views.draw(
            (source for source, _ in sources),
            (plan for _, plan in plans),
            self._image.size,
            self._image.resize,
            self._cache,
        )


def view_key(content_hash: bytes, values: np.ndarray) -> bytes:
    """Return the key of a view: of the SHA-256 of its image file, and of its values in the plan, NaN of a plain one."""
    return hashlib.blake2b(content_hash + values.tobytes(), digest_size=KEY_BYTES).digest()


def describe(folder: Path, raw: Path, rows: pl.DataFrame) -> None:
    """Write what the rows of an array show, `rows.csv`, and the order of a model's outputs, `classes.json`."""
    tables.write(rows, folder / "rows.csv")
    classes = read_json(raw / "source.json")["classes"]
    write_json(folder / "classes.json", classes, indent=None)


def kept_outputs(dataset: Dataset, backbone: Path, layer: str | None, image: ImageSettings) -> KeptRows | None:
    """Return the outputs of a frozen layer that the cache of a dataset keeps; None if it keeps none.

    It keeps those of OpenVINO alone: on a GPU, the same views can give other bytes.
    """
    if dataset.cache is None or layer is None or image.engine != "openvino":
        return None
    shape = inference.output_shapes(backbone / "backbone.xml", [layer], image.size)[layer]
    return KeptRows(dataset.cache, kind(backbone, layer, image), shape, dtype(layer))


def kind(backbone: Path, layer: str, image: ImageSettings) -> str:
    """Return a hash of all that outputs of OpenVINO have in common: the network, the settings, and `computing`."""
    network = backbone / "backbone.xml"
    machine = "" if kernels.CHOICE.baseline and not kernels.CHOICE.late else platform.node()
    settings = {
        "files": [hashlib.sha256(file.read_bytes()).hexdigest() for file in (network, network.with_suffix(".bin"))],
        "computing": [computing(), machine],
        "columns": augmentation_plan.COLUMNS,
        "layer": layer,
        "image": asdict(image),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def computing() -> dict[str, str]:
    """Return what this process computes with, by name: two machines with the same compute the same bytes."""
    code = b"".join(file.read_bytes() for file in COMPUTING) + decoding.CODE.encode()
    return {
        "OpenVINO": importlib.metadata.version("openvino"),
        "OpenCV": cv2.__version__,
        "NumPy": np.__version__,
        "Pillow": f"{PIL.__version__} with libjpeg {PIL.features.version('jpg')}",
        "kernels": kernels.describe(kernels.CHOICE),
        "code": hashlib.sha256(code).hexdigest()[:16],
    }


def elsewhere(dataset: Dataset, backbone: Path, layer: str | None, image: ImageSettings) -> Elsewhere | None:
    """Return what computes the outputs of a frozen layer on other machines; None if this one computes them.

    The others have OpenVINO alone, as the cache has.
    """
    if dataset.machines is None or layer is None or image.engine != "openvino":
        return None
    return dataset.machines(backbone, layer, image)


def outputs(
    planned: PlannedViews,
    run: inference.Run,
    kept: KeptRows | None = None,
    rows: np.ndarray | None = None,
    others: Elsewhere | None = None,
) -> Iterator[np.ndarray]:
    """Yield the outputs of `run` for views, in their order, in batches of any length.

    Args:
        planned: The views.
        run: The frozen layers.
        kept: Outputs of the same layers, which are not computed again; those that are computed are added.
        rows: Numbers of the views; None: all.
        others: Other machines, on which the frozen layers run; None: this one alone.
    """
    rows = np.arange(len(planned.rows)) if rows is None else rows

    def compute(new: np.ndarray) -> Iterator[np.ndarray]:
        return run(inference.rebatch(planned.draw(new)))

    if kept is None and others is None:
        yield from compute(rows)
        return
    keys = planned.keys(rows)
    places = np.full((len(keys), 2), -1) if kept is None else kept.find(keys)
    is_new = places[:, 0] < 0
    if is_new.any() and not _computes_each_alone(run, planned.size):
        yield from compute(rows)
        return
    new = rows[is_new]
    computed = _of_unchanged(planned, new, compute(new)) if others is None else others(planned, new, keys[is_new])
    if kept is None:
        yield from computed
        return
    kept.announce(int(is_new.sum()))
    computed = kept.keep(keys[is_new], computed)
    each_computed = (output[None] for batch in computed for output in batch)
    ends = np.flatnonzero(np.diff(is_new)) + 1
    for start, end in itertools.pairwise([0, *ends.tolist(), len(rows)]):
        yield from itertools.islice(each_computed, end - start) if is_new[start] else kept.read(places[start:end])
    yield from each_computed  # none is left: this ends the computation, which keeps the last rows


def _of_unchanged(planned: PlannedViews, rows: np.ndarray, batches: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the outputs of these rows, each batch once its images are known to be those whose keys it gets."""
    start = 0
    for batch in batches:
        planned.check_unchanged(rows[start : start + len(batch)])
        start += len(batch)
        yield batch


def _computes_each_alone(run: inference.Run, size: int) -> bool:
    """Return whether an output is the same bytes whatever other views are computed with it; if not, say so."""
    pair = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    [first], [together], [swapped] = (list(run([batch])) for batch in (pair[:1], pair, pair[::-1]))
    is_same = together.tobytes() == swapped[::-1].tobytes() and first.tobytes() == together[:1].tobytes()
    if not is_same:
        say(
            "the outputs of this network depend on which photographs are computed together: this machine computes "
            "them, and none of them is kept"
        )
    return is_same


def extract(
    planned: PlannedViews,
    run: inference.Run,
    output: Path,
    kept: KeptRows | None = None,
    others: Elsewhere | None = None,
) -> None:
    """Write the output of `run` for every view as the array `output`. `kept`, `others`: see `outputs`."""
    count = len(planned.rows)
    with progress.bar(output.stem, count) as bar:

        def counted() -> Iterator[np.ndarray]:
            for batch in outputs(planned, run, kept, others=others):
                bar.update(len(batch))
                yield batch

        arrays.write_rows(output, counted(), count)


@dataclass(frozen=True)
class PlannedArray:
    """An array of outputs, before it is computed."""

    rows: int
    layer: str | None  # whose outputs; None for the pixels
    shapes: dict[str | None, tuple[int, ...]]  # of one output of each cut point, in their order; of an image under None

    @property
    def shape(self) -> str:
        """The shape of one output, as text."""
        return "×".join(map(str, self.shapes[self.layer]))

    @property
    def size(self) -> str:
        """The bytes of the array, as text."""
        return size_text(self.bytes(self.layer))

    def bytes(self, layer: str | None) -> int:
        """Return the bytes that the array would have with the outputs of another layer."""
        return self.rows * prod(self.shapes[layer]) * dtype(layer).itemsize


def write_no_rows(output: Path, array: PlannedArray) -> None:
    """Write the array `output` without any of its rows."""
    arrays.write_rows(output, [np.empty((0, *array.shapes[array.layer]), dtype(array.layer))], rows=0)


def dtype(layer: str | None) -> np.dtype:
    """Return the dtype of the outputs of a layer; None for the pixels."""
    return np.dtype(np.float16 if layer else np.uint8)


def check_space(folder: Path, array: PlannedArray, remedy: str) -> None:
    """Raise ThawError if the array does not fit on the disk of `folder`.

    The error says how much is needed and how much is free, which deeper cut point would fit, and the `remedy`.
    """
    free = shutil.disk_usage(folder).free
    if array.bytes(array.layer) <= free:
        return
    layers = list(array.shapes)
    deeper = {layer: array.bytes(layer) for layer in layers[layers.index(array.layer) + 1 :]}
    fitting = [f"{layer} would need {size_text(size)}; " for layer, size in deeper.items() if size <= free]
    raise ThawError(
        f"{array.rows:,} outputs of {array.layer or 'the input'}, {array.shape} each, need {array.size} of disk, but "
        f"{size_text(free)} are free: {''.join(fitting[:1])}{remedy}"
    )


def open_activations(folder: Path, dataset: Dataset, backbone: Path) -> "np.memmap | Recomputed":
    """Return the activations that `folder` describes: its array, or with `fine_tune.cache: false` `Recomputed`."""
    activations = arrays.open_rows(folder / "activations.npy")
    if len(activations):
        return activations
    cut = read_json(folder / "cut.json")
    image = ImageSettings(**cut["image"])
    return Recomputed(PlannedViews(dataset, image, cut["preset"]), backbone, cut["layer"], image)


class Recomputed:
    """The outputs of a frozen layer, computed again for the rows that are read: to the bit what the array would hold.

    Args:
        planned: The views that are the rows.
        backbone: Folder of the network.
        layer: The frozen layer; None for the pixels.
        image: Size and engine.
    """

    def __init__(self, planned: PlannedViews, backbone: Path, layer: str | None, image: ImageSettings):
        self._planned, self._axes = planned, ()
        self._run = engine(backbone, layer, image)
        shapes = inference.output_shapes(backbone / "backbone.xml", [layer] if layer else [], image.size)
        self.shape = (len(planned.rows), *shapes[layer])
        self.dtype = dtype(layer)

    def flipped(self, axes: tuple[int, ...]) -> "Recomputed":
        """Return the same for views that are flipped along `axes` of (n, height, width, channels)."""
        twin = copy.copy(self)
        twin._axes = axes
        return twin

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the outputs of an array of row numbers: (len(rows), ...).

        Raises ThawError if an output is not finite.
        """
        flipped_views = (np.flip(view, self._axes) for view in self._planned.draw(rows))
        outputs = np.concatenate(list(self._run(inference.rebatch(flipped_views))))
        arrays.check_finite(outputs, "outputs of the frozen layers")
        return outputs
