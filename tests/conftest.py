"""A scratch repository with drawn photographs, in which the real pipeline has run once, for the tests of the pipeline.

DVC, Git and the stages are the real ones; only the photographs are few (49, of 64 to 90 pixels) and the network's
input small (32), so that the whole run takes under a minute.
"""

import compileall
import contextlib
import fcntl
import gc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import thaw  # noqa: F401 - before NumPy: it chooses the kernels

# isort: split
import numpy as np
import pytest
import yaml
from PIL import Image

from thaw.core import cache, kernels

ROOT = Path(__file__).parent.parent
SMALL = {  # the parameters in which the scratch repository differs from params.yaml
    "download.source": "folder",
    "download.folder.path": "photographs",
    "augment.copies": 2,
    "image.size": 32,
    "head.strengths": [0.003, 0.03, 0.3],  # `evaluate` fits dozens of heads for its learning curve
    "fine_tune.freeze_depth": "block7",  # tracing the layers that train takes most of the time of so small a run
    "fine_tune.epochs": 2,
    "fine_tune.batch_size": 8,  # with no warm-up and this rate, the few steps there are improve on the head
    "fine_tune.warmup_epochs": 0,
    "fine_tune.learning_rate": 1e-3,
    "evaluate.bootstrap": 100,
}
needs_bfloat16 = pytest.mark.skipif(
    kernels.CHOICE.baseline and "avx512f" in kernels.processor_flags(),
    reason="TensorFlow aborts: on AVX-512 it multiplies bfloat16 by oneDNN, which AVX2 kernels cannot; "
    "THAW_KERNELS=native pytest tests/test_loop.py tests/test_folding.py runs it",
)
SLOW = (
    "pipeline", "experiments", "building", "loop", "remotes", "cluster", "export", "inputs", "network", "extended",
    "edits",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest: the processes then end at nearly the same time.

    Wants pytest-xdist's `--no-loadscope-reorder`, without which it begins with the files of most tests.
    """
    places = {f"test_{name}.py": place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(item.path.name, len(SLOW)))


class Checkout:
    """A working copy of the scratch repository."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def lock(self) -> bytes:
        return (self.path / "dvc.lock").read_bytes()

    def run(self, *command: str, **options) -> subprocess.CompletedProcess:
        """Run a command in the checkout, stdout and stderr as text in the result; it may fail."""
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, timeout=600, **options)

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro` to its end and return the stages whose scripts ran."""
        result = self.dvc("repro", *arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return scripts_run(result.stdout)

    def set(self, **parameters: object) -> None:
        """Change parameters, named `section__key`, in params.yaml; its comments stay."""
        path = self.path / "params.yaml"
        lines = path.read_text().splitlines(keepends=True)
        for name, value in parameters.items():
            *sections, key = name.split("__")
            at = 0
            for section in sections:
                at = next(i for i in range(at, len(lines)) if re.match(rf"\s*{section}:\s*$", lines[i])) + 1
            at = next(i for i in range(at, len(lines)) if re.match(rf"\s*{key}:", lines[i]))
            plain = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
            lines[at] = re.sub(r":.*?(?=\s+#|$)", lambda _, plain=plain: f": {plain}", lines[at], count=1)
        path.write_text("".join(lines))

    def forget(self, stage: str) -> None:
        """Make one stage out of date, whatever it reads, and keep the run cache from bringing it back."""
        text = self.lock.decode()
        command = f"    cmd: python src/{stage}.py\n"
        assert command in text
        (self.path / "dvc.lock").write_text(text.replace(command, command.replace("python", "python3")))
        shutil.rmtree(self.path / ".dvc" / "cache" / "runs")

    def partials(self) -> list[str]:
        """The temporary files and folders beside the outputs, of which a finished run leaves none."""
        found = [p for d in ("data", "models", "reports") for p in (self.path / d).rglob("*.partial*")]
        return sorted(p.relative_to(self.path).as_posix() for p in found)


def scripts_run(output: str) -> list[str]:
    """The stages whose scripts were started, as `dvc repro` says.

    Without `fingerprints`, the look that every run begins with where photographs are a person's own: see
    test_inputs.py.
    """
    started = re.findall(r"^> python src/(\w+)\.py$", output, re.MULTILINE)
    return [stage for stage in started if stage != "fingerprints"]


def surroundings(home: Path) -> dict[str, str]:
    """The environment in which no setting, cache or identity of the person reaches DVC and Git."""
    of_dvc = ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR")
    of_git = {f"GIT_{who}_{what}": "tests" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {name: str(home / name.lower()) for name in of_dvc} | of_git | {
        "DVC_NO_ANALYTICS": "1",
        cache.LIMIT: "0",  # each run computes; a test of the cache sets its own
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PYTHONDONTWRITEBYTECODE": "",  # hundreds of stages are started, and each would compile all that it imports
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip


def draw_photographs(folder: Path) -> None:
    """Draw 24 photographs of each of two textures that a network can tell apart, of all colours and sizes.

    JPEG and PNG, one of each class grey and one with transparency; one more is the exact duplicate of another, and
    one is a JPEG cut off in the middle.
    """
    generator = np.random.default_rng(1)
    for label in ("blobs", "stripes"):
        (folder / label).mkdir(parents=True)
        for number in range(24):
            height, width = generator.integers(64, 91, size=2)
            y, x = np.mgrid[:height, :width]
            angle, period = generator.uniform(0, 2 * np.pi), generator.uniform(6, 12)
            if label == "stripes":
                wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
            else:
                wave = np.sin(np.pi * x / period + angle) * np.sin(np.pi * y / period + angle)
            colour, noise = generator.uniform(0.3, 1, size=3), generator.normal(0, 12, size=(height, width, 3))
            image = Image.fromarray((127 + 60 * wave[..., None] * colour + noise).clip(0, 255).astype(np.uint8))
            image = image.convert({3: "L", 4: "RGBA"}.get(number, "RGB"))
            image.save(folder / label / f"{label}{number:02}.{'jpg' if number % 4 == 1 else 'png'}", quality=90)
    whole = (folder / "blobs" / "blobs01.jpg").read_bytes()
    (folder / "blobs" / "again.jpg").write_bytes(whole)
    (folder / "stripes" / "cut.jpg").write_bytes(whole[: len(whole) // 2])


def make_source(
    path: Path, parameters: Mapping[str, object] = SMALL, draw: Callable[[Path], None] = draw_photographs
) -> Checkout:
    """Make a Git and DVC repository with this checkout's pipeline and few photographs, in which nothing has run.

    Wants `surroundings`. `parameters` change those of params.yaml; `draw` writes the photographs into a folder.
    """
    checkout = Checkout(path)
    shutil.copytree(ROOT / "src", path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(path / "src", quiet=2)  # once for all copies; neither Git nor DVC sees it
    shutil.copytree(ROOT / "recipes", path / "recipes")
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
        shutil.copyfile(ROOT / name, path / name)
    draw(path / "photographs")
    checkout.set(**{name.replace(".", "__"): value for name, value in parameters.items()})
    for command in (
        ["git", "init", "--quiet"],
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "pipeline"],
    ):
        checkout.run(*command, check=True)
    return checkout


@pytest.fixture(scope="session", autouse=True)
def without_cache():
    """What Thaw keeps for all clones is neither read nor changed; a test of the cache makes its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.LIMIT, "0")
        yield


@pytest.fixture(scope="module", autouse=True)
def free_of_old_objects():
    """Python looks no more through what the files before left in memory: Keras makes it look before each network."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def dvc_of_its_own(tmp_path_factory):
    """No setting, cache or identity of the person who runs the tests reaches DVC and Git, and none is left behind."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in surroundings(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        yield


@contextlib.contextmanager
def made_once(name: str, make: Callable[[Path], None], tmp_path_factory) -> Iterator[Path]:
    """A folder that the first test process makes, all others read, and the last removes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of the process that started all others
    path, unfinished = folder / name, folder / f"{name}-unfinished"
    with (folder / f"{name}.making").open("w") as making, (folder / f"{name}.using").open("w") as using:
        fcntl.flock(making, fcntl.LOCK_EX)
        fcntl.flock(using, fcntl.LOCK_SH)
        if not path.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(path)
        fcntl.flock(making, fcntl.LOCK_UN)
        yield path
        with contextlib.suppress(BlockingIOError):  # others use it
            fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)


@pytest.fixture(scope="session")
def source_dir(tmp_path_factory, dvc_of_its_own):
    """A Git and DVC repository with this checkout's pipeline and the drawn photographs, in which nothing has run.

    Not to be changed: see `fresh`.
    """
    with made_once("source", make_source, tmp_path_factory) as path:
        yield path


@pytest.fixture(scope="session")
def run_dir(source_dir, tmp_path_factory):
    """The scratch repository after one `dvc repro`, its results committed. Not to be changed: see `finished`."""

    def make(path: Path) -> None:
        shutil.copytree(source_dir, path)
        checkout = Checkout(path)
        checkout.repro()
        checkout.run("git", "add", "--all", check=True)
        checkout.run("git", "commit", "--quiet", "--message", "results", check=True)

    with made_once("run", make, tmp_path_factory) as path:
        yield path


@pytest.fixture
def fresh(source_dir, tmp_path):
    """A copy of the scratch repository in which nothing has run, to work on."""
    yield from _copy(source_dir, tmp_path / "fresh")


@pytest.fixture
def finished(run_dir, tmp_path):
    """A copy of the finished scratch repository, its cache and run cache too, to work on."""
    yield from _copy(run_dir, tmp_path / "finished")


@pytest.fixture(scope="module")
def finished_once(run_dir, tmp_path_factory):
    """The same for tests of a module that go on from one another's result."""
    yield from _copy(run_dir, tmp_path_factory.mktemp("shared") / "finished")


def _copy(source: Path, target: Path):
    shutil.copytree(source, target, symlinks=True)
    yield Checkout(target)
    shutil.rmtree(target)
