"""A finished model as those who only use it want it: its answers without Keras, calibrated and decided.

The network runs on OpenVINO. It is converted once, and the converted copy is kept under the hash of the model file and
of the code that converts: a model that changes is converted anew, and one that comes back is not, while it is among the
KEPT that were used last.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw import provenance
from thaw.calibration import apply_temperature
from thaw.errors import ThawError, missing
from thaw.flips import AXES

OUTPUT = "probabilities"
KEPT = 8  # converted models, some 15 MB each


@dataclass(frozen=True)
class Description:
    """What a model file says of itself: the classes in the order of its output, and what its images look like."""

    classes: tuple[str, ...]
    size: int  # pixels on a side
    resize: str  # crop, pad or squash


@dataclass(frozen=True)
class Decision:
    """How probabilities become an answer."""

    temperature: float = 1.0
    threshold: float | None = None  # on the calibrated probability of the second of two classes
    test_time_flips: str | None = None  # whose answers are averaged, see `flips`

    def calibrated(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the calibrated probabilities (n, classes) of a model's own."""
        return apply_temperature(probabilities.astype(np.float64), self.temperature)

    def answers(self, calibrated: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the class (n,) of each image: the likeliest, or of two the second where it lies above the threshold.

        Of equally likely ones it is the first.
        """
        if self.threshold is None:
            return calibrated.argmax(axis=1)
        return (calibrated[:, 1] > self.threshold).astype(np.int64)


def describe(model: Path) -> Description:
    """Read the description of a `.keras` file that `models.save` wrote; raises ThawError where it is none of those."""
    try:
        with zipfile.ZipFile(model) as file:
            metadata = json.loads(file.read("metadata.json"))
        classes, image = metadata["class_names"], metadata["image"]
        return Description(tuple(classes), image["size"], image["resize"])
    except FileNotFoundError:
        raise missing(model) from None
    except PermissionError as error:
        raise ThawError(f"{model} cannot be read: {error.strerror}") from None
    except KeyError as error:
        raise ThawError(f"{model}: not a classifier of Thaw's (it has no {error.args[0]})") from None
    except (OSError, zipfile.BadZipFile, ValueError, TypeError) as error:
        raise ThawError(f"{model}: not a model of Thaw's ({error})") from None


def decision(path: Path, model: str, classes: tuple[str, ...], file: Path) -> Decision | None:
    """Read what `evaluate` chose for `model` from `decision.json`; None where there is no such file, or one that was
    chosen for a model of other bytes than `file`, such as the run's before.

    Raises ThawError where it was chosen for other classes, or is none that `evaluate` writes.
    """
    try:
        chosen = json.loads(path.read_text(encoding="utf-8"))
        if tuple(chosen["class_names"]) != classes:
            raise ThawError(f"{path} was chosen for another model, of {', '.join(chosen['class_names'])}: `dvc repro`")
        of_model = chosen["models"][model]
        flips = chosen.get("test_time_flips")
        if flips not in list(AXES):  # and of any type, also of one without a hash
            raise ThawError(f"{path} asks for the test-time flips {flips!r}, which there are not: `dvc repro`")
        if "model_md5" in chosen and chosen["model_md5"] != provenance.md5(file):
            return None
        return Decision(of_model["temperature"], of_model["threshold"], flips)
    except FileNotFoundError:
        return None
    except (KeyError, ValueError, TypeError) as error:
        raise ThawError(f"{path} is no decision of Thaw's ({error!r}): `dvc repro` writes it") from None


def network(model: Path, cache: Path) -> Path:
    """Return the OpenVINO network of a `.keras` file, converted now unless `cache` has it; its output is OUTPUT."""
    converter = hashlib.sha256(Path(__file__).with_name("conversion.py").read_bytes())
    with model.open("rb") as file:
        name = hashlib.file_digest(file, lambda: converter).hexdigest()
    kept = cache / name / "model.xml"
    with contextlib.suppress(OSError):  # not there yet, or in a cache that may only be read
        os.utime(kept.parent)
    if not kept.exists():
        with _locked(cache):
            if not kept.exists():  # another process may have converted it meanwhile
                print(f"{model}: converted for OpenVINO once, which takes some seconds", file=sys.stderr)
                _convert(model, kept.parent)
                _forget(cache)
    return kept


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Let one process at a time convert; the system releases the folder even when the process is killed."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = os.open(cache, os.O_RDONLY)
    except OSError as error:
        raise ThawError(f"the converted model cannot be kept in {cache}: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError):  # a file system without locks, as some of a network are
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _forget(cache: Path) -> None:
    """Remove all converted models but the KEPT that were used last; others may use and remove them at the same time."""
    used = {}
    for folder in cache.glob("[0-9a-f]" * 64):
        with contextlib.suppress(OSError):
            used[folder] = folder.stat().st_mtime_ns
    for folder in sorted(used, key=used.__getitem__)[:-KEPT]:
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime_ns == used[folder]:  # else it was asked for just now
                # Renamed first: nobody is to find half of it. The files of one who reads it stay until he is done.
                shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.{os.getpid()}.unused")))


def _convert(model: Path, folder: Path) -> None:
    from thaw import models, openvino
    from thaw.conversion import convert
    from thaw.files import whole_folder
    from thaw.keras import keras

    whole, _ = models.load(model)
    try:
        with whole_folder(folder) as temporary:
            network = convert(keras.Model(whole.input, {OUTPUT: whole.output}, name=whole.name))
            openvino.write(network, temporary / "model.xml")
    except OSError as error:
        raise ThawError(f"the converted model cannot be kept in {folder.parent}: {error.strerror}") from None
