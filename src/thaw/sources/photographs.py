"""What every source hands over, and how it becomes `data/raw`."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl
from tqdm import tqdm

from thaw import images, tables
from thaw.errors import ThawError


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
    path: Path
    label: str
    weight: float = 1.0
    author: str = ""
    landing_url: str = ""
    meta: dict[str, str] = field(default_factory=dict)  # the source's own columns, without their prefix


def collect(source: Source, photographs: Iterable[Photograph], raw: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Copy the photographs into `raw/images`, check that each decodes, write `images.csv` and `source.json`.

    Returns the table of the images (tables.IMAGES and `meta_` columns, sorted by id) and that of the files that were
    left out (`image_id`, `file`, `reason`; also `missing.csv`). Raises ThawError where two photographs have one id, or
    a class is left without any.
    """
    photographs = sorted(photographs, key=lambda p: p.image_id)
    repeated = [i for i, count in Counter(p.image_id for p in photographs).items() if count > 1]
    if repeated:
        paths = " and ".join(str(p.path) for p in photographs if p.image_id == repeated[0])
        raise ThawError(f"two photographs have the id {repeated[0]}: {paths}")
    (raw / "images").mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(
            tqdm(
                pool.map(lambda p: _collect_one(source, p, raw), photographs),
                "photographs", len(photographs), disable=None, unit="image",
            )
        )  # fmt: skip
    missing = pl.DataFrame(
        [row for row in rows if "reason" in row], dict.fromkeys(("image_id", "file", "reason"), pl.String)
    )
    table = pl.DataFrame([row for row in rows if "reason" not in row], infer_schema_length=None)
    present = set(table["label"]) if len(table) else set()
    if absent := [label for label in source.classes if label not in present]:
        ids = [p.image_id for p in photographs if p.label == absent[0]]
        reasons = missing.filter(pl.col("image_id").is_in(ids))["reason"]
        why = f" ({reasons[0]})" if len(reasons) else ""
        raise ThawError(f"no photograph of the class {absent[0]!r} could be read{why}")
    if len(present) < 2:
        raise ThawError("a classifier wants at least two classes")
    tables.write(table, raw / "images.csv")
    tables.write(missing, raw / "missing.csv")
    description = json.dumps(asdict(source), indent=1, ensure_ascii=False) + "\n"
    (raw / "source.json").write_text(description, encoding="utf-8")
    return table, missing


def _collect_one(source: Source, photograph: Photograph, raw: Path) -> dict[str, object]:
    """Copy one file and return its row, or the reason why it is left out."""
    try:
        height, width = images.decode(photograph.path).shape[:2]
    except ThawError as error:
        reason = str(error).removeprefix(f"{photograph.path}: ")
        file = os.fsencode(photograph.path.name).decode(errors="replace")  # a name may be any bytes
        return {"image_id": photograph.image_id, "file": file, "reason": reason}
    name = f"images/{photograph.image_id}{photograph.path.suffix.lower()}"
    shutil.copyfile(photograph.path, raw / name)
    return {
        "image_id": photograph.image_id,
        "path": name,
        "label": photograph.label,
        "weight": photograph.weight,
        "source": source.name,
        "license": source.license,
        "author": photograph.author,
        "landing_url": photograph.landing_url,
        "sha256": hashlib.sha256((raw / name).read_bytes()).hexdigest(),
        "width": width,
        "height": height,
        **{f"meta_{key}": value for key, value in photograph.meta.items()},
    }
