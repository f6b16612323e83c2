"""What every source hands over, and how it becomes `data/raw`."""

import hashlib
import json
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from tqdm import tqdm

from thaw import images, tables
from thaw.errors import ThawError
from thaw.files import clone
from thaw.sources.fetching import FailingError, UnreachableError

TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


@dataclass(frozen=True)
class Source:
    """What is true of all photographs of a source; kept as `source.json`."""

    name: str
    license: str
    citation: str
    classes: tuple[str, ...]  # in the order of the model's outputs; of two, the second is the positive one
    strata: tuple[str, ...] = ()  # the columns, beside the label, whose mix every split should keep


@dataclass(frozen=True)
class Photograph:
    image_id: str
    path: Path  # where the file is, once it was read
    label: str
    weight: float = 1.0
    license: str = ""  # where it is not the source's
    author: str = ""
    author_url: str = ""
    title: str = ""
    landing_url: str = ""
    turn: int = 0  # degrees, counter-clockwise, that make the stored pixels upright
    origin: str = ""  # what missing.csv calls it, without a path of this machine
    left_out: str = ""  # why it cannot be used, where that is known before it is read
    meta: dict[str, str] = field(default_factory=dict)  # the source's own columns, without their prefix


def is_one_line(name: str) -> bool:
    """Say whether a name of a class stays on its line: in the labels of an export it would else be two."""
    return not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name)


def read(photograph: Photograph) -> np.ndarray:
    """Return the pixels of a file that is already here."""
    return images.decode(photograph.path)


def collect(
    source: Source,
    photographs: Iterable[Photograph],
    raw: Path,
    most: int | None = None,
    least: int = 1,
    read: Callable[[Photograph], np.ndarray] = read,
    workers: int | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Copy the photographs into `raw/images`, check that each decodes, write `images.csv` and `source.json`.

    Of each class the first `most` that can be read count, in the order given, so that a photograph that is gone is
    replaced by the next; `None` takes all. `read` brings a photograph to its path and returns its pixels, and raises
    ThawError with the reason where it cannot; it runs in `workers` threads (None: one a core).

    Returns the table of the images (tables.IMAGES and `meta_` columns, sorted by id) and that of those that were
    left out (`image_id`, `file`, `reason`; also `missing.csv`). Raises ThawError where two photographs have one id, a
    class is left with fewer than `least`, there are not two classes, or `read` raises FailingError, which says nothing
    of the photograph: the others of the round are read before that; and what `read` raises as UnreachableError.
    """
    photographs = list(photographs)
    repeated = [i for i, count in Counter(p.image_id for p in photographs).items() if count > 1]
    if repeated:
        paths = " and ".join(str(p.path) for p in photographs if p.image_id == min(repeated))
        raise ThawError(f"two photographs have the id {min(repeated)}: {paths}")
    if len(source.classes) < 2:
        raise ThawError("a classifier wants at least two classes")
    (raw / "images").mkdir(parents=True)
    of_class = defaultdict(list)
    for photograph in photographs:
        if not photograph.left_out:
            of_class[photograph.label].append(photograph)
    waiting = {label: iter(of_class[label]) for label in source.classes}
    failed: list[str] = []
    kept: dict[str, list[dict]] = {label: [] for label in source.classes}
    missing = {p.image_id: (p.origin or p.path.name, p.left_out) for p in photographs if p.left_out}
    total = sum(len(p) if most is None else min(most, len(p)) for p in of_class.values())
    with (
        ThreadPoolExecutor(workers or os.cpu_count()) as pool,
        tqdm(desc="photographs", total=total, disable=None, unit="image") as bar,
    ):
        # What a round leaves open the next one fills: what is kept does not depend on which thread was faster.
        while batch := [
            p for label in waiting for p in islice(waiting[label], None if most is None else most - len(kept[label]))
        ]:
            for photograph, row in zip(
                batch, pool.map(lambda p: _collect_one(source, p, raw, read), batch), strict=True
            ):
                if isinstance(row, FailingError):
                    failed.append(f"{photograph.origin or photograph.path.name}: {row}")
                elif isinstance(row, str):
                    missing[photograph.image_id] = (photograph.origin or photograph.path.name, row)
                else:
                    kept[photograph.label].append(row)
                    bar.update()
            if failed:
                more = f" (and {len(failed) - 1:,} more)" if failed[1:] else ""
                raise ThawError(f"{failed[0]}{more}; run again to go on with what has arrived")
    _check_enough(kept, of_class, missing, least)
    table = pl.DataFrame([row for rows in kept.values() for row in rows], infer_schema_length=None).sort("image_id")
    rows = sorted((image_id, _text(file), reason) for image_id, (file, reason) in missing.items())
    left_out = pl.DataFrame(rows, dict.fromkeys(("image_id", "file", "reason"), pl.String), orient="row")
    tables.write(table, raw / "images.csv")
    tables.write(left_out, raw / "missing.csv")
    description = json.dumps(asdict(source), indent=1, ensure_ascii=False) + "\n"
    (raw / "source.json").write_text(description, encoding="utf-8")
    return table, left_out


def attribution(table: pl.DataFrame, photographs: Iterable[Photograph]) -> pl.DataFrame:
    """List who is to be named for which image of `table`, as Creative Commons licences ask; not where nobody is."""
    by_id = {p.image_id: p for p in photographs}
    licensed = table.filter(pl.any_horizontal(pl.col("license", "author", "landing_url") != ""))
    credits = [by_id[image_id] for image_id in licensed["image_id"]]
    return licensed.select(
        "image_id",
        pl.Series("title", [p.title for p in credits], pl.String),
        "author",
        pl.Series("author_url", [p.author_url for p in credits], pl.String),
        "license",
        "landing_url",
        "source",
    )


def _collect_one(
    source: Source, photograph: Photograph, raw: Path, read: Callable
) -> dict[str, object] | str | FailingError:
    """Copy one file and return its row, the reason why it is left out, or the failure of the server."""
    try:
        height, width = read(photograph).shape[:2]
    except UnreachableError:
        raise
    except FailingError as error:
        return error
    except ThawError as error:
        # The system's own errors name the path, too; no path of this machine belongs into an output.
        return str(error).removeprefix(f"{photograph.path}: ").replace(str(photograph.path), photograph.path.name)
    name = f"images/{photograph.image_id}{photograph.path.suffix.lower()}"
    if photograph.turn:
        width, height = _turn(photograph.path, raw / name, photograph.turn)
    else:
        clone(photograph.path, raw / name)
    return {
        "image_id": photograph.image_id,
        "path": name,
        "label": photograph.label,
        "weight": photograph.weight,
        "source": source.name,
        "license": photograph.license or source.license,
        "author": photograph.author,
        "landing_url": photograph.landing_url,
        "sha256": hashlib.sha256((raw / name).read_bytes()).hexdigest(),
        "width": width,
        "height": height,
        **{f"meta_{key}": value for key, value in photograph.meta.items()},
    }


def _turn(source: Path, target: Path, degrees: int) -> tuple[int, int]:
    """Write a JPEG turned counter-clockwise, without the orientation of its EXIF; returns its width and height."""
    with Image.open(source) as image:
        image = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
        turned = image.transpose(TURNS[degrees])
        # The finest setting that is usual: at 95 and full chroma the second encoding is not to be seen.
        turned.save(target, "JPEG", quality=95, subsampling=0, exif=b"")
    return turned.size


def _text(name: str) -> str:
    """A file's name as text that can be written: a name may hold any bytes."""
    return os.fsencode(name).decode(errors="replace")


def _check_enough(kept: dict[str, list], of_class: dict[str, list], missing: dict[str, tuple], least: int) -> None:
    for label, rows in kept.items():
        if len(rows) >= least:
            continue
        reasons = [missing[p.image_id][1] for p in of_class[label] if p.image_id in missing]
        why = f" ({reasons[0]})" if reasons else ""
        if not rows:
            raise ThawError(f"no photograph of the class {label!r} could be read{why}")
        raise ThawError(f"the class {label!r} is left with {len(rows)} photographs{why}: a split wants {least} or more")
