"""What a library prints stays off the terminal, from Python and from C++; what is printed before and after does not."""

import os
import subprocess
import sys

import pytest
from dependencies import SRC

from thaw.core.silence import silence

SCRIPT = """
import os, sys
from thaw.core.silence import silence
print("before")
with silence(1, 2):
    print("Python")
    print("Python", file=sys.stderr)
    os.write(1, b"C++")
    os.write(2, b"C++")
print("after")
print("after", file=sys.stderr)
"""


def test_nothing_reaches_a_silenced_descriptor():
    result = subprocess.run([sys.executable, "-c", SCRIPT], cwd=SRC, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("before\nafter\n", "after\n")


def test_the_other_descriptor_is_not_silenced(capfd):
    with silence(2):
        os.write(1, b"out")
        os.write(2, b"err")
    assert capfd.readouterr() == ("out", "")


def test_an_error_ends_the_silence(capfd):
    with pytest.raises(ValueError, match="wrong"), silence(1, 2):
        raise ValueError("wrong")
    os.write(1, b"out")
    assert capfd.readouterr() == ("out", "")


def test_no_descriptor_stays_open():
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else None  # noqa: PTH112, PTH208
    if before is None:
        pytest.skip("this system does not list the open descriptors")
    with silence(1, 2):
        pass
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
