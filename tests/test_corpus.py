"""The corpus: inputs as people have them, each with its right value. See corpus/README.md."""

import base64
import contextlib
import hashlib
import io
import os
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from thaw.core.errors import ThawError
from thaw.images import decoding
from thaw.prediction import names, stream
from thaw.sources import folder, table
from thaw.sources.collection import collect

CORPUS = Path(__file__).parent / "corpus"
CASES = [case for path in sorted(CORPUS.glob("*.yaml")) for case in yaml.safe_load(path.read_text(encoding="utf-8"))]

DRAWN = {
    "JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF", "AVIF": "AVIF",
    "JPEG 2000": "JPEG2000", "PPM": "PPM", "TGA": "TGA", "ICO": "ICO", "ICNS": "ICNS", "DDS": "DDS", "PCX": "PCX",
    "SGI": "SGI", "XBM": "XBM",
}  # fmt: skip
BEGUN = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x10meta",
    "RAW": b"II*\0\x10\0\0\0CR\2\0" + bytes(range(64)),
    "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x10\0\0\0\x10\0\x08\0\3",
    "SVG": b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "PDF": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n",
    "video": b"\0\0\0\x14ftypqt  \0\0\2\0qt  \0\0\0\x08wide",
    "zip": b"PK\3\4\x14\0\0\0\x08\0",
    "LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132735\n",
    "HTML": b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>",
    "zeros": bytes(4096),
    "empty": b"",
}


def photograph(name: str, format: str) -> bytes:
    """Return a file of 24 × 16 pixels, drawn from its name."""
    seed = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:4], "big")
    pixels = cv2.resize(np.random.default_rng(seed).integers(0, 255, (4, 6, 3), np.uint8), (24, 16))
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert("1") if format == "XBM" else image).save(buffer, format)
    return buffer.getvalue()


def make(root: Path, name: str, content: str | dict) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content == "folder":
        return path.mkdir(exist_ok=True)
    if isinstance(content, dict) and "link" in content:
        return path.symlink_to(content["link"])
    path.write_bytes(read(name, content))


def read(name: str, content: str | dict) -> bytes:
    if isinstance(content, str):
        return photograph(name, DRAWN[content]) if content in DRAWN else BEGUN[content]
    tail = content.get("tail", "").encode()
    if "hex" in content:
        return bytes.fromhex(str(content["hex"])) + tail
    if "base64" in content:
        return base64.b64decode(content["base64"]) + tail
    if "copy" in content:
        return (CORPUS / content["copy"]).read_bytes() + tail
    if "file" in content:
        return read(name, content["file"])[: content.get("bytes")] + tail
    return content["text"].encode(content.get("encoding", "utf-8")) + tail


def of_listing(listing, root: Path) -> dict:
    images, missing = collect(listing, root.parent / "raw")
    subsets = Counter(images["meta_subset"].to_list() if "meta_subset" in images.columns else [""] * len(images))
    return {
        "classes": list(listing.info.classes),
        "counts": dict(Counter(images["label"].to_list())),
        "used": {name or "unsplit": count for name, count in subsets.items()},
        "groups": dict(Counter(images["meta_group"].to_list())) if "meta_group" in images.columns else {},
        "left_out": dict(missing.select("file", "reason").iter_rows()),
        "notes": list(listing.notes),
        "warnings": list(listing.warnings),
    }


def of_folder(case: dict, root: Path) -> dict:
    return of_listing(folder.find(folder.Folder(path=str(root / case.get("named", "")))), root)


def of_table(case: dict, root: Path) -> dict:
    path = str(root / case.get("table", "labels.csv"))
    return of_listing(
        table.find(
            table.Table(path=path, path_column="path", label_column="label", label_separator=";", unlisted=None)
        ),
        root,
    )


def of_predict(case: dict, root: Path) -> dict:
    left_out: dict[Path, str] = {}
    names = [str(root / name) for name in case.get("paths", [""])]
    items = stream.expand(names, left_out)
    loaded = list(stream.load_images(items, 16, "crop"))
    return {
        "used": [os.path.relpath(image.path, root) for image in loaded if image.error is None],
        "errors": {os.path.relpath(image.path, root): image.error for image in loaded if image.error is not None},
        "left_out": dict(Counter(left_out.values())),
    }


def of_list(case: dict, root: Path) -> dict:
    with contextlib.chdir(root):
        named = names.read(["-"], io.BytesIO(read("list", case["list"])), case.get("zero_bytes", False))
        loaded = list(stream.load_images(stream.expand(named), 16, "crop"))
    return {
        "used": [image.path for image in loaded if image.error is None],
        "errors": {image.path: image.error for image in loaded if image.error is not None},
    }


def of_pixels(case: dict, root: Path) -> dict:
    (file,) = [path for path in root.rglob("*") if path.is_file()]
    pixels = decoding.decode(file)
    wanted = case.get("expect", {}).get("pixels", {})
    return {
        "size": [pixels.shape[1], pixels.shape[0]],
        "pixels": {where: pixels[tuple(map(int, where.split(",")))[::-1]].tolist() for where in wanted},
        "darkest": int(pixels.min()),
        "brightest": int(pixels.max()),
    }


KINDS = {"folder": of_folder, "table": of_table, "predict": of_predict, "list": of_list, "pixels": of_pixels}
WORDS = {  # of a case
    "case", "kind", "source", "path", "files", "paths", "list", "zero_bytes", "table", "named", "expect", "error",
    "tolerance",
}  # fmt: skip
IN_PART = {"left_out", "errors", "notes", "warnings"}  # whose texts are given by some of their words


def agree(name: str, result: object, wanted: object, tolerance: float) -> bool:
    if name in IN_PART and isinstance(wanted, list):
        return len(result) == len(wanted) and all(words in text for words, text in zip(wanted, result, strict=True))
    if name in IN_PART and all(isinstance(value, str) for value in wanted.values()):
        return result.keys() == wanted.keys() and all(words in result[key] for key, words in wanted.items())
    if isinstance(wanted, dict) and tolerance:
        return result.keys() == wanted.keys() and all(np.allclose(result[k], wanted[k], 0, tolerance) for k in wanted)
    return np.allclose(result, wanted, 0, tolerance) if tolerance else result == wanted


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_an_input_as_people_have_it(case, tmp_path):
    root = tmp_path / "input"
    root.mkdir()
    if "path" in case:
        shutil.copytree(CORPUS / case["path"], root, dirs_exist_ok=True)
    for name, content in case.get("files", {}).items():
        make(root, str(name), content)
    if "error" in case:
        with pytest.raises(ThawError) as caught:
            KINDS[case["kind"]](case, root)
        assert case["error"] in str(caught.value) and "\n" not in str(caught.value)
        return
    results = KINDS[case["kind"]](case, root)
    assert case["expect"]
    for name, wanted in case["expect"].items():
        assert agree(name, results[name], wanted, case.get("tolerance", 0)), f"{name}: {results[name]} is not {wanted}"


def test_each_case_has_a_name_of_its_own_says_where_it_comes_from_and_has_no_word_that_is_not_read():
    names = [case["case"] for case in CASES]
    assert len(names) == len(set(names)) > 0
    assert not [case["case"] for case in CASES if not case.get("source") or ("expect" in case) == ("error" in case)]
    assert not [case["case"] for case in CASES if case.keys() - WORDS]


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 1_000_000
