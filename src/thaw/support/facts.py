"""What is needed to help someone: versions, machine, remote, disk and state of the pipeline, without paths or names.

It has to work where the environment is broken or was never made, so it imports the standard library alone.
"""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from thaw.core import kernels
from thaw.core.machine import usable_cores

PACKAGES = (
    "dvc", "keras", "tensorflow", "openvino", "numpy", "scipy", "scikit-learn", "polars", "pillow",
    "opencv-python-headless", "onnxruntime", "ai-edge-litert", "fiftyone", "ray",
)  # fmt: skip
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")  # of the processor, that results or speed depend on
SECONDS = 60  # for each command: `dvc status` reads the tables of hashes of all outputs
UNKNOWN = "unknown"
Fact = tuple[str, str]


def collect(project: Path, params: Path) -> list[Fact]:
    """Return (name, value) of each fact, in the order in which they are read. A fact that cannot be found says so.

    Args:
        project: its folder.
        params: its file of parameters, of which the kind of the source is said.
    """
    groups: tuple[tuple[str, Callable[[], Iterator[Fact]]], ...] = (
        ("versions", lambda: versions(project)),
        ("machine", lambda: machine(project)),
        ("git", lambda: git_state(project)),
        ("dvc", lambda: dvc_state(project)),
        ("pipeline", lambda: pipeline_state(project, params)),
    )
    facts: list[Fact] = []
    for name, group in groups:
        try:
            facts += group()
        except Exception as error:  # what is broken is what is asked about: the rest must still be said
            facts.append((name, f"not to be found out ({type(error).__name__})"))
    return facts


def versions(project: Path) -> Iterator[Fact]:
    match = re.search(r'^version = "([\w.]+)"', (project / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    yield "thaw", match[1] if match else UNKNOWN
    yield "python", platform.python_version()
    yield "environment", ".venv" if (project / ".venv") in Path(sys.executable).parents else "not .venv"
    found = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    yield "packages", ", ".join(found) or "none of Thaw's packages: run `make setup`"


def machine(project: Path) -> Iterator[Fact]:
    yield "system", f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver()).strip() or 'no glibc'}"
    yield "processor", f"{processor()}, {platform.machine()}"
    flags = _flags()
    yield "instructions", ", ".join(flag for flag in FLAGS if flag in flags) or UNKNOWN
    yield "cores", f"{usable_cores()} of {os.cpu_count()}"
    yield "memory", _memory()
    usage = shutil.disk_usage(project)
    yield "disk", f"{_gigabytes(usage.free)} free of {_gigabytes(usage.total)}"
    choice = kernels.CHOICE
    replaced = f"; replaced settings: {', '.join(sorted(choice.replaced))}" if choice.replaced else ""
    yield "kernels", f"{kernels.BASELINE if choice.baseline else choice.reason or UNKNOWN}{replaced}"


def git_state(project: Path) -> Iterator[Fact]:
    is_shallow = _run(project, "git", "rev-parse", "--is-shallow-repository")
    refused = is_shallow is None and any((folder / ".git").exists() for folder in (project, *project.parents))
    commit = _run(project, "git", "rev-parse", "--short", "HEAD")
    yield "commit", commit or (UNKNOWN if refused else "none")
    changes = _run(project, "git", "status", "--porcelain")
    kinds = (changes or "").splitlines()
    untracked = sum(line.startswith("??") for line in kinds)
    counts = f"{len(kinds) - untracked} tracked files changed, {untracked} not tracked"
    yield "changes", UNKNOWN if changes is None else counts
    yield "clone", UNKNOWN if is_shallow is None else "shallow" if is_shallow == "true" else "whole"


def dvc_state(project: Path) -> Iterator[Fact]:
    remotes, cache = _run(project, *_dvc("remote", "list")), _run(project, *_dvc("cache", "dir"))
    kinds = sorted({_kind(line.split()[1]) for line in (remotes or "").splitlines() if len(line.split()) > 1})
    yield "remote", UNKNOWN if remotes is None else ", ".join(kinds) or "none"
    if not cache:
        yield "cache", UNKNOWN
        yield "links", UNKNOWN
        return
    where = Path(cache)
    inside = (project / ".dvc") in where.resolve().parents
    yield "cache", f"{'of this project' if inside else 'elsewhere'}, {'there' if where.exists() else 'not there yet'}"
    yield "links", _run(project, *_dvc("config", "cache.type")) or "as DVC chooses"  # it fails, too, if none is set


def pipeline_state(project: Path, params: Path) -> Iterator[Fact]:
    yield "source", _source(params)
    status = _run(project, *_dvc("status", "--json"))
    if status is None:
        yield "stages", "`dvc status` gave no answer"
        return
    ours = {script.stem for script in (project / "src").glob("*.py")}
    changed = json.loads(status)
    named = sorted(ours & changed.keys())
    others = len(changed) - len(named)  # of the person's own: their names may say what they are about
    parts = [*named, *([f"{others} of your own"] if others else [])]
    yield "stages", f"out of date: {', '.join(parts)}" if parts else "all up to date"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _run(project: Path, *command: str) -> str | None:
    """Return what a command prints, or None if it fails, takes too long or is not installed."""
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    try:
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _dvc(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "dvc", *arguments)


def _kind(url: str) -> str:
    """Return the kind of a remote, without its address."""
    return url.partition("://")[0] if "://" in url else "a folder"


def processor() -> str:
    lines = _lines(Path("/proc/cpuinfo"))
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or UNKNOWN


def _flags() -> Sequence[str]:
    return next((line.split() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("flags")), [])


def _memory() -> str:
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in _lines(Path("/proc/meminfo")) if "kB" in line}
    if "MemTotal:" not in sizes:
        return UNKNOWN
    return f"{_gigabytes(sizes.get('MemAvailable:', 0))} free of {_gigabytes(sizes['MemTotal:'])}"


def _lines(path: Path) -> Sequence[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _source(params: Path) -> str:
    """Return the kind of the photographs' source: one word of the parameters."""
    section = ""
    for line in params.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if match := re.match(r"(\w+)\s*:", line):
            section = match[1]
        elif section == "download" and (match := re.match(r"""\s+source\s*:\s*["']?([a-z_]+)["']?\s*(#|$)""", line)):
            return match[1]
    return UNKNOWN
