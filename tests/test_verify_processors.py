"""The short form of `make verify-processors`: what NumPy, scikit-learn, OpenCV and Pillow compute, emulated."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import verify_processors
from verify_processors import QEMU, Row

from thaw.core import kernels
from thaw.core.errors import ThawError

COMPUTING = """
import sys
from hashlib import sha256
from pathlib import Path
from thaw.features import linear_probe
from thaw.images import decoding
import cv2
import numpy as np
def show(name, array):
    print(name, sha256(np.ascontiguousarray(array).tobytes()).hexdigest())
for path in map(Path, sys.argv[1:]):
    pixels = decoding.decode(path)
    show(path.suffix, pixels)
    show("fitted", decoding.fit(pixels, 64, "squash"))
    show("blurred", cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 1.3))
draw = np.random.default_rng(0)
x = draw.normal(size=(60, 40)).astype(np.float32)
labels = (x[:, 0] + x[:, 1] > draw.normal(size=60)).astype(int)
for probe in linear_probe.fit_path(linear_probe.Samples(x, labels, draw.random(60)), [0.01, 1]):
    show("head", probe.kernel)
    show("probabilities", probe.probabilities(x))
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real") / "photographs"
    verify_processors.copy_photographs(folder)
    return folder


def test_the_photographs_are_real_grey_and_coloured_png_and_jpeg(photographs):
    rows = [line.split(",") for line in (photographs / "list.csv").read_text().splitlines()[1:]]
    assert len(rows) == 2 * verify_processors.CELLS + 2 and all((photographs / path).exists() for path, _, _ in rows)
    assert {(path.rpartition(".")[2], label) for path, label, _ in rows} == {
        (suffix, label) for suffix in ("png", "jpg") for label in ("functional", "defective")
    }


@pytest.mark.skipif(not shutil.which(QEMU), reason=f"{QEMU} is missing: install qemu-user to emulate processors")
@pytest.mark.skipif(not kernels.processor_flags() >= kernels.NEEDED, reason="this processor lacks AVX2 or FMA")
def test_a_processor_of_another_maker_computes_the_same_bytes(photographs):
    cells = [photographs / "china.jpg", min(photographs.glob("*.png"))]
    command = [sys.executable, "-c", COMPUTING, *map(str, cells)]
    amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    emulator = [QEMU, "-cpu", "Haswell-noTSX" if amd else "EPYC"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    here, there = (
        subprocess.run(start + command, env=environment, capture_output=True, text=True, timeout=900)
        for start in ([], emulator)
    )
    assert here.stdout.count("\n") == 10, here.stderr
    assert there.stdout == here.stdout, there.stderr


def test_a_missing_emulator_and_an_unknown_processor_are_one_line(monkeypatch):
    monkeypatch.setattr(verify_processors.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(verify_processors.shutil, "which", lambda _: None)
    with pytest.raises(ThawError, match="apt install qemu-user"):
        verify_processors.check_emulator(["EPYC"])
    monkeypatch.setattr(verify_processors.shutil, "which", lambda _: "/usr/bin/qemu-x86_64")
    listing = subprocess.CompletedProcess([], 1, "Available CPUs:\nx86 EPYC  AMD\n")
    monkeypatch.setattr(verify_processors.subprocess, "run", lambda *_, **__: listing)
    verify_processors.check_emulator(["EPYC"])
    with pytest.raises(ThawError, match="knows no processor Haswel"):
        verify_processors.check_emulator(["Haswel"])
    monkeypatch.setattr(verify_processors.platform, "machine", lambda: "aarch64")
    with pytest.raises(ThawError, match="on x86-64 only"):
        verify_processors.check_emulator(["EPYC"])


def test_outputs_that_differ_are_counted_in_the_table(capsys):
    rows = [Row("EPYC", "split", [], 3, 9.0, ""), Row("Haswell", "split", ["a"], 3, 9.0, "")]
    assert verify_processors.line_of(rows[1]).endswith("DIFFERS: a")
    verify_processors.print_table(rows)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["split", "3", "of", "3", "2", "of", "3"]
