"""Look whether photographs, weights or a model of a person's own have changed: a hash of each in `data/inputs`.

The stage runs in every `dvc repro` if there are such files: see `inputs`. A hash that differs reruns the stages that
read the files. Files that have kept their size, times and inode are not read again. Where they are not on this machine,
as in a clone with the results of a teammate, the hash stays.
"""

from pathlib import Path

from thaw.core import keras_file, params, weight_files
from thaw.core.encodings import shown
from thaw.core.errors import ThawError, run
from thaw.core.files import read_json, write_json
from thaw.core.hashes import sha256
from thaw.core.paths import project_folder, repository
from thaw.core.section import Section
from thaw.core.task import SINGLE
from thaw.inputs import fingerprint, named, outputs
from thaw.sources import added
from thaw.sources.base import known_columns
from thaw.sources.registry import SOURCES

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
EACH_TIME = Path("data/inputs/each_time.yaml")  # makes the stage run
PHOTOGRAPHS = Path("data/inputs/photographs.json")
WEIGHTS = Path("data/inputs/weights.json")
MODEL = Path("data/inputs/model.json")
MEMORY = repository(project_folder()) / ".dvc" / "tmp" / "thaw"  # what was read before; no output depends on it


BESIDE = ("preprocessor_config.json", "config.json")  # of a folder of weights: they say how pixels are scaled


def main() -> None:
    parameters = params.load(PARAMS)
    model = named.model(parameters.head.extend)
    if model and model.path.is_file():
        params.check_extended(PARAMS, keras_file.read_metadata(model.path).get("image"))
    hashes = {
        PHOTOGRAPHS: of_photographs(parameters.download, parameters.task, old_hash(PHOTOGRAPHS)),
        WEIGHTS: of_file(named.weights(parameters.backbone.weights), old_hash(WEIGHTS)),
        MODEL: of_file(model, old_hash(MODEL)),
    }
    changed = [path.stem for path, sha in hashes.items() if sha != old_hash(path)]
    for path, sha in hashes.items():
        write_json(path, {"sha256": sha})
    print(f"fingerprints: {', '.join(changed) or 'nothing'} changed")


def old_hash(path: Path) -> str | None:
    return read_json(path)["sha256"] if path.exists() else None


def of_photographs(download: Section, task: str, old: str | None) -> str | None:
    """Return the hash of the photographs and of what was labelled since, or None if none of them is a person's own."""
    labelled = named.labelled(download)
    if old and (absent := [each.path for each in labelled if not each.path.exists()]):
        return kept(old, f"{absent[0]} is not on this machine")
    source, is_here = of_source(download, task, old)
    if not labelled or not is_here:
        return source
    path = added.added_path(download)
    if old and path and not memory_of_added(path).known and not added.is_here(path):
        return kept(old, f"no photograph of {path} is on this machine")
    parts = [source or "", of_added(path) if path else ""]
    parts += [sha256(each.path) for each in labelled if each.parameter == added.CORRECTIONS]
    return fingerprint.of_text(" ".join(parts))


def memory_of_added(table: Path) -> fingerprint.Memory:
    return fingerprint.Memory(MEMORY / f"{fingerprint.of_text(str(table))}.json")


def of_added(table: Path) -> str:
    """Return the hash of the photographs that a table adds to those of the source."""
    memory = memory_of_added(table)
    if same := memory.same():
        return same
    listing = added.find(table)
    outputs.check_apart(named.images(added.NAME, listing.images), outputs.declared(PIPELINE))
    return fingerprint.of_listing(listing, table, memory)


def of_source(download: Section, task: str, old: str | None) -> tuple[str | None, bool]:
    """Return the hash of the photographs of the source, or None if they are not a person's own.

    It is `old`, and the second value is False, if they are not on this machine.
    """
    source = SOURCES[download.source]
    if not source.is_own:
        return None, True
    section, place = getattr(download, source.name), named.photographs(download)
    if place and old and not place.path.exists():
        return kept(old, f"{place.path} is not on this machine"), False
    several = f" {task}" if task != SINGLE else ""
    key = fingerprint.of_text(f"{section.model_dump_json()} {place.path if place else ''}{several}")  # it may be moved
    memory = fingerprint.Memory(MEMORY / f"{key}.json")
    if place and (same := memory.same()):
        return same, True
    is_new_here = not memory.known  # else the photographs were here, and are looked for
    if place and old and is_new_here and source.is_here and not source.is_here(section):
        return kept(old, f"no photograph of {place.path} is on this machine"), False
    try:
        listing = source.list_images(section, task)
    except ThawError as error:
        if place or not old:
            raise
        return kept(old, str(error)), False
    joined = added.join(listing, download)
    params.check_photographs(PARAMS, joined.listing.info.classes, known_columns(joined.images))  # before one is read
    outputs.check_apart(named.images(source.name, listing.images), outputs.declared(PIPELINE))
    return fingerprint.of_listing(listing, place.path if place else None, memory), True


def of_file(own: named.Named | None, old: str | None) -> str | None:
    """Return the hash of a file with all its parts, or None if there is none."""
    if own is None:
        return None
    if own.path.is_file():
        beside = [own.path.with_name(name) for name in BESIDE] if own.path.name == weight_files.FILE else []
        hashes = [weight_files.sha256(own.path), *(sha256(path) for path in beside if path.is_file())]
        return hashes[0] if len(hashes) == 1 else fingerprint.of_text(" ".join(hashes))
    if old:
        return kept(old, f"{own.path} is not on this machine")
    raise ThawError(f"{own.parameter}: there is no file {own.path}")


def kept(old: str, reason: str) -> str:
    print(f"fingerprints: {shown(reason)}: taken as unchanged")
    return old


if __name__ == "__main__":
    run(main, stage=__doc__)
