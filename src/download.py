"""Fetch the labelled photographs of `download.source` into `data/raw`: images, `images.csv`, `source.json`.

Everything behind this stage joins on `images.csv` and knows nothing of where the photographs came from. Files that
cannot be read as images are left out, listed in `missing.csv` and counted.
"""

from pathlib import Path

from thaw import params
from thaw.errors import run
from thaw.files import whole_folder
from thaw.sources import elpv, folder
from thaw.sources.photographs import collect

RAW = Path("data/raw")


def main() -> None:
    download = params.load(Path("params.yaml")).download
    if download.source == "elpv":
        source, photographs = elpv.find(download.elpv)
    else:
        source, photographs = folder.find(download.folder)
    with whole_folder(RAW) as raw:
        images, missing = collect(source, photographs, raw)
    counts = ", ".join(f"{(images['label'] == label).sum():,} {label}" for label in source.classes)
    left_out = f"; {len(missing):,} unreadable files left out, listed in {RAW}/missing.csv" if len(missing) else ""
    license = f" ({source.license})" if source.license else ""
    print(f"download: {len(images):,} photographs from {source.name}{license}: {counts}{left_out}")


if __name__ == "__main__":
    run(main)
