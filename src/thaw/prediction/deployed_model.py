"""A finished model for use without Keras: its description, its decision rule, and its network on OpenVINO.

The network is converted once. The copy is kept under a hash of all that decides its bytes: the model file, the code
that converts, and the versions of the libraries. The MAX_KEPT copies that were used last are kept.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.core import hashes, locks
from thaw.core.errors import ThawError
from thaw.core.keras_file import read_metadata
from thaw.core.metrics_file import FINE_TUNED
from thaw.core.task import SINGLE
from thaw.engines.flips import AXES
from thaw.training.temperature import apply_temperature

OUTPUT = "probabilities"
MAX_KEPT = 8  # converted models, from some 15 MB each to 1.2 GB of a large transformer
SOURCE = Path(__file__).parents[1]
CONVERTERS = ("core", "engines", "prediction/deployed_model.py")  # below SOURCE: the modules that the conversion uses
LIBRARIES = ("keras", "openvino", "numpy")  # whose version can change the bytes of the converted model


@dataclass(frozen=True)
class Description:
    """What the metadata of a model file say: its classes, in the order of its outputs, and how its input is made."""

    classes: tuple[str, ...]
    size: int  # pixels on a side
    resize: str  # crop, pad or squash
    task: str = SINGLE  # MULTI: an image may show several of the classes


@dataclass(frozen=True)
class Decision:
    """How the probabilities of a model become a label."""

    temperature: float = 1.0
    threshold: float | None = None  # on the calibrated probability of the second of two classes
    test_time_flips: str | None = None  # the predictions for these mirror images are averaged, see `flips`
    sets: Mapping[float, tuple[float, ...]] = field(default_factory=dict)  # level → of each class, the lowest in a set

    def calibrate(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return calibrated probabilities (n, classes) for the model's own (n, classes)."""
        return apply_temperature(probabilities.astype(np.float64), self.temperature)

    def predict(self, calibrated: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the class (n,) of each image, by its calibrated probabilities (n, classes).

        Without a threshold it is the most probable class, and the first of equally probable ones. With a threshold
        there are two classes: it is the second if its probability is above the threshold, else the first.
        """
        if self.threshold is None:
            return calibrated.argmax(axis=1)
        return (calibrated[:, 1] > self.threshold).astype(np.int64)

    def set_level(self, wanted: float) -> float:
        """Return the lowest level of `sets` that is at least the wanted one. Raises ThawError if there is none."""
        levels = [level for level in self.sets if level >= wanted]
        if not self.sets:
            raise ThawError(
                "--sets: decision.json has no sets; `evaluate` writes them, but not for an extended model, whose old "
                "classes have no labels"
            )
        if not levels or wanted < min(self.sets):
            raise ThawError(f"--sets should be from {min(self.sets):g} to {max(self.sets):g}, not {wanted:g}")
        return min(levels)

    def set_of(self, calibrated: NDArray[np.float64], predicted: int, level: float) -> list[int]:
        """Return the classes in the set of an image, the most probable first.

        Args:
            calibrated: its (classes,) probabilities.
            predicted: its class, which is always in the set.
            level: one of `sets`.
        """
        is_member = calibrated >= self.sets[level]
        is_member[predicted] = True
        return [int(i) for i in np.argsort(-calibrated, kind="stable") if is_member[i]]


def read_description(model: Path) -> Description:
    """Read the description of a `.keras` file; raises ThawError if `model_files.save` did not write it."""
    metadata = read_metadata(model)
    try:
        classes, image = metadata["class_names"], metadata["image"]
        return Description(tuple(classes), image["size"], image["resize"], metadata.get("task", SINGLE))
    except KeyError as error:
        raise ThawError(f"{model}: not a classifier of Thaw's (it has no {error.args[0]})") from None
    except TypeError as error:
        raise ThawError(f"{model}: not a model of Thaw's ({error})") from None


def read_decision(model: Path, classes: tuple[str, ...]) -> Decision | None:
    """Read what `evaluate` decided for a model file, from `decision.json` beside it.

    Returns None if there is no such file, or if it was written for a model file of other bytes, such as that of an
    earlier run. Raises ThawError if it is for other classes, or if `evaluate` did not write it.
    """
    path = model.with_name("decision.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("task", SINGLE) != SINGLE:
            raise ThawError(f"{path} was chosen for a model of several labels for each photograph: run `dvc repro`")
        if tuple(content["class_names"]) != classes:
            raise ThawError(f"{path} was chosen for another model, of {', '.join(content['class_names'])}: `dvc repro`")
        chosen = content["models"][content.get("model", FINE_TUNED)]
        flips = content.get("test_time_flips")
        if flips not in list(AXES):  # a list: the value may be of a type without a hash
            raise ThawError(f"{path} asks for the test-time flips {flips!r}, which do not exist: `dvc repro`")
        if "model_md5" in content and content["model_md5"] != hashes.md5(model):
            return None
        sets = {float(level): tuple(map(float, limits)) for level, limits in chosen.get("sets", {}).items()}
        if any(len(limits) != len(classes) for limits in sets.values()):
            raise ValueError("its sets have limits for other classes")
        return Decision(chosen["temperature"], chosen["threshold"], flips, sets)
    except FileNotFoundError:
        return None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ThawError(f"{path} is no decision of Thaw's ({error!r}): `dvc repro` writes it") from None


def converted_network(model: Path, cache: Path) -> Path:
    """Return the file of the OpenVINO network of a `.keras` file. The network's output is named OUTPUT.

    It is taken from the folder `cache`, or converted now and kept there. Raises ThawError if it cannot be kept.
    """
    kept = cache / _cache_key(model) / "model.xml"
    with contextlib.suppress(OSError):  # not there yet, or the cache can only be read
        os.utime(kept.parent)
    files = kept, kept.with_suffix(".bin")
    if not all(file.exists() for file in files):
        with _locked(cache):
            if not all(file.exists() for file in files):  # another process may have converted it in the meantime
                print(f"{model}: converted for OpenVINO once, which takes some seconds", file=sys.stderr)
                _convert(model, kept.parent)
                _remove_unused(cache)
    return kept


def _cache_key(model: Path) -> str:
    """Return a hash of all that decides the bytes of the converted model: code, libraries and the model file."""
    digest = hashlib.sha256()
    for name in CONVERTERS:
        path = SOURCE / name
        for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            content = module.read_bytes()
            digest.update(f"{module.relative_to(SOURCE).as_posix()} {len(content)}\n".encode() + content)
    for name in LIBRARIES:
        digest.update(f"{name}=={importlib.metadata.version(name)}\n".encode())
    with model.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Let one process at a time convert."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ThawError(f"the converted model cannot be kept in {cache}: {error.strerror}") from None
    with locks.exclusive(cache):
        yield


def _remove_unused(cache: Path) -> None:
    """Remove all converted models but the MAX_KEPT that were used last. Other processes may do so at the same time."""
    used = {}
    for folder in cache.glob("[0-9a-f]" * 64):
        with contextlib.suppress(OSError):
            used[folder] = folder.stat().st_mtime_ns
    for folder in sorted(used, key=used.__getitem__)[:-MAX_KEPT]:
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime_ns == used[folder]:  # else another process has just used it
                # Renamed first: no process uses half of it. A process that has a file open can still read it.
                shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.{os.getpid()}.unused")))


def _convert(model: Path, folder: Path) -> None:
    from thaw.core.files import atomic_folder
    from thaw.engines import model_files, openvino_setup
    from thaw.engines.keras_setup import keras
    from thaw.engines.keras_to_openvino import convert

    full_model, _ = model_files.load(model)
    try:
        with atomic_folder(folder) as temporary:
            network = convert(keras.Model(full_model.input, {OUTPUT: full_model.output}, name=full_model.name))
            openvino_setup.write(network, temporary / "model.xml")
    except OSError as error:
        raise ThawError(f"the converted model cannot be kept in {folder.parent}: {error.strerror}") from None
