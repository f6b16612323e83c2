"""Measure how many changed copies of photographs are found as near-duplicates, and which photographs are united.

    python benchmarks/duplicates.py [--shared ../shared] [--copies 100] [--sheets FOLDER] [--only NAME ...] [--nearest]

For each data set it prints how many groups there are among its photographs, and the seconds for it. With `--sheets`, up
to 50 of these groups, drawn at random, are on a contact sheet, to see whether they are right. Then copies of 100
photographs are added, of one kind at a time, and it prints how many share the group of their original. The look-alikes
are all different photographs: any group of them is wrong.

With `--nearest`, each photograph is compared with the most similar ones by their hashes alone, as of many photographs.
`--shared` is the folder with `trashnet`, `open_images` and `look_alikes`. The solar cells are those of elpv-dataset.
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from thaw.images import contact_sheet, decoding  # noqa: E402
from thaw.splitting import candidates, duplicates, thumbnails  # noqa: E402

SHEET_GROUPS, SHEET_IMAGES, SHEET_SIZE = 50, 4, 128
SHEET_COLUMNS = 3  # groups side by side


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    filter = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=filter)


def light(pixels: np.ndarray, gain: float, shift: float = 0.0) -> np.ndarray:
    return np.clip((pixels - 127.5) * gain + 127.5 + shift, 0, 255).round().astype(np.uint8)


def noisy(pixels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 5, pixels.shape)
    return np.clip(pixels + noise, 0, 255).round().astype(np.uint8)


def cut(pixels: np.ndarray, side: str, fraction: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    down, across = round(height * fraction), round(width * fraction)
    return {
        "top": pixels[down:], "bottom": pixels[: height - down],
        "left": pixels[:, across:], "right": pixels[:, : width - across],
    }[side]  # fmt: skip


def grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


MIRRORED = "mirrored"
COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG 30": lambda pixels: jpeg(pixels, 30),
    "JPEG 60": lambda pixels: jpeg(pixels, 60),
    "JPEG 90": lambda pixels: jpeg(pixels, 90),
    "half the size": lambda pixels: scaled(pixels, 0.5),
    "1.5 times the size": lambda pixels: scaled(pixels, 1.5),
    "10 % brighter": lambda pixels: light(pixels, 1, 25.5),
    "10 % darker": lambda pixels: light(pixels, 1, -25.5),
    "10 % more contrast": lambda pixels: light(pixels, 1.1),
    "10 % less contrast": lambda pixels: light(pixels, 0.9),
    "noise of 5 levels": noisy,
    "blur of 1 % of the side": lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 0.01 * max(pixels.shape)),
    "grey": grey,
    **{
        f"{fraction:.0%} cut at the {side}": lambda pixels, side=side, fraction=fraction: cut(pixels, side, fraction)
        for fraction in (0.02, 0.05, 0.1)
        for side in ("top", "bottom", "left", "right")
    },
    MIRRORED: lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
}


def data_sets(shared: Path) -> dict[str, list[Path]]:
    """Return the files of each data set; those that are not there are left out, with a line on stderr."""
    cells = Path(importlib.util.find_spec("elpv_dataset").origin).parent
    files = {
        "solar cells": cells.glob("data/images/*.png"),
        "trashnet": shared.glob("trashnet/*/*.jpg"),
        "open_images": shared.glob("open_images/images/**/*.jpg"),
        "look_alikes": shared.glob("look_alikes/images/*.jpg"),
    }
    listed = {name: sorted(found) for name, found in files.items()}
    for name in (name for name, found in listed.items() if not found):
        print(f"{name} is left out: no photographs in {shared / name}", file=sys.stderr)
    return {name: found for name, found in listed.items() if found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--copies", type=int, default=100, help="photographs of each data set to make copies of")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets of the groups")
    parser.add_argument("--only", nargs="+", help="names of data sets")
    parser.add_argument("--nearest", action="store_true", help="as where there are many photographs")
    arguments = parser.parse_args()
    if arguments.nearest:
        candidates.MAX_ALL_PAIRS = 0
    sets, recall = data_sets(arguments.shared), {}
    if unknown := set(arguments.only or ()) - sets.keys():
        parser.error(f"--only {' '.join(sorted(unknown))}: the data sets that are there are {', '.join(sets)}")
    for name, files in sets.items():
        if arguments.only and name not in arguments.only:
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            originals = np.array(thumbnails.read(files, Path(folder)))
        read = time.perf_counter()
        members = groups(files, duplicates.group_near_duplicates(list(map(str, files)), originals))
        seconds = time.perf_counter() - read
        merged = sum(len(group) - 1 for group in members)
        print(
            f"{name}: {merged} of {len(files):,} photographs are near-duplicates of others, in {len(members)} groups, "
            f"the largest of {max(map(len, members), default=1)}; {read - start:.1f} s to read, "
            f"{seconds:.1f} s to group",
            flush=True,
        )
        if arguments.sheets and members:
            write_sheet(members, arguments.sheets / f"{name.replace(' ', '_')}.jpg")
        if arguments.copies:
            recall[name] = found(files, originals, arguments.copies)
    print_table(recall)


def groups(files: Sequence[Path], names: Sequence[str]) -> list[list[Path]]:
    """Return the files of each group of two or more."""
    members: dict[str, list[Path]] = {}
    for file, name in zip(files, names, strict=True):
        members.setdefault(name, []).append(file)
    return [group for group in members.values() if len(group) > 1]


def found(files: Sequence[Path], originals: np.ndarray, count: int) -> dict[str, float]:
    """Return the fraction of each kind of copies that share the group of their original."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(files))[:count])
    pixels = [np.ascontiguousarray(decoding.decode(files[i])) for i in chosen]
    ids = [f"{i:06}" for i in range(len(files))]
    fractions = {}
    for kind, change in COPIES.items():
        copies = np.stack([thumbnails.thumbnail(change(image)) for image in pixels])
        names = duplicates.group_near_duplicates(
            ids + [f"{ids[i]}-copy" for i in chosen], np.concatenate([originals, copies]), mirrored=kind == MIRRORED
        )
        fractions[kind] = float(np.mean([names[i] == names[len(files) + j] for j, i in enumerate(chosen)]))
    return fractions


def write_sheet(members: list[list[Path]], path: Path) -> None:
    """Write a contact sheet of up to SHEET_GROUPS groups: SHEET_IMAGES of each, then an empty place."""
    order = np.sort(np.random.default_rng(0).permutation(len(members))[:SHEET_GROUPS])
    blank = np.full((SHEET_SIZE, SHEET_SIZE, 3), 255, np.uint8)
    strips = [
        [*(decoding.fit(decoding.decode(file), SHEET_SIZE, "pad") for file in members[i][:SHEET_IMAGES])] for i in order
    ]
    strips = [strip + [blank] * (SHEET_IMAGES + 1 - len(strip)) for strip in strips]
    strips += [[blank] * (SHEET_IMAGES + 1)] * (-len(strips) % SHEET_COLUMNS)
    rows = (list(chain(*strips[i : i + SHEET_COLUMNS])) for i in range(0, len(strips), SHEET_COLUMNS))
    contact_sheet.write([np.stack(row) for row in rows], path)
    print(f"  {len(order)} groups are on {path}", flush=True)


def print_table(recall: dict[str, dict[str, float]]) -> None:
    if not recall:
        return
    print(f"\n{'copies found':26}" + "".join(f"{name:>13}" for name in recall))
    for kind in COPIES:
        print(f"{kind:26}" + "".join(f"{fractions[kind]:13.1%}" for fractions in recall.values()))


if __name__ == "__main__":
    main()
