"""How far long work is, where there is no terminal: plain lines on stderr, and only after a while."""

import os
import pty
import re
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import yaml
from dependencies import ROOT, closure

from thaw.core import progress

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    monkeypatch.setattr(progress, "_loops", [])


def wait_for(capsys, count: int, seconds: float = 10) -> list[str]:
    """The lines on stderr, once there are `count`."""
    text, start = "", time.monotonic()
    while text.count("\n") < count:
        assert time.monotonic() - start < seconds, text
        time.sleep(0.01)
        text += capsys.readouterr().err
    return text.splitlines()


def test_a_line_says_what_is_done_of_how_much_how_fast_and_how_long_it_will_take(capsys):
    with progress.lines("extract_features", interval=0.2), progress.bar("features", 7347) as bar:
        bar.update(1216)
        line = wait_for(capsys, 1)[0]
    assert re.fullmatch(
        r"extract_features: features: 1,216 of 7,347 images, [\d,]+ images/s, \d+ s left", line
    ), line  # fmt: skip


def test_one_long_step_is_no_silence(capsys):
    with progress.lines("train_head", interval=0.02), progress.bar("fits", 11, unit="fit") as bar:
        bar.update()
        assert all(line.startswith("train_head: fits: 1 of 11 fits") for line in wait_for(capsys, 3))


def test_work_without_a_loop_is_no_silence(capsys):
    with progress.lines("evaluate", interval=0.02):
        assert wait_for(capsys, 1)[0] == "evaluate: running for 0 s"


def test_the_innermost_loop_speaks_then_the_outer_one_again(capsys):
    with progress.lines("s", interval=0.02), progress.bar("outer", 2, unit="part"):
        with progress.bar("inner", 5, unit="step") as bar:
            bar.update(5)
            assert wait_for(capsys, 1)[0] == "s: inner: 5 of 5 steps"
        capsys.readouterr()
        assert wait_for(capsys, 2)[-1] == "s: outer: 0 of 2 parts"


def test_a_loop_that_has_ended_is_named_until_the_next_begins(capsys):
    with progress.lines("s", interval=0.02):
        assert list(progress.track([1, 2], "epoch 1 of 12", "step", 2)) == [1, 2]
        assert wait_for(capsys, 2)[-1] == "s: epoch 1 of 12: 2 of 2 steps"
        with progress.bar("epoch 2 of 12", 2, unit="step"):
            capsys.readouterr()
            assert wait_for(capsys, 2)[-1] == "s: epoch 2 of 12: 0 of 2 steps"


def test_bytes_are_megabytes_and_a_total_may_come_later(capsys):
    with progress.lines("download", interval=0.05), progress.bar("table.csv", unit="B") as bar:
        bar.update(120_000_000)
        assert wait_for(capsys, 1)[0].startswith("download: table.csv: 120 MB, ")
        bar.total = 600_000_000
        assert wait_for(capsys, 2)[-1].startswith("download: table.csv: 120 of 600 MB, ")


def test_a_loop_without_steps_is_only_named(capsys):
    with progress.lines("fine_tune", interval=0.02), progress.bar("epoch 0 of 12", 0, unit="step"):
        assert wait_for(capsys, 1)[0] == "fine_tune: epoch 0 of 12"


@pytest.mark.parametrize(("seconds", "text"), [(59, "59 s"), (150, "2.5 min"), (1500, "25 min"), (9000, "2.5 h")])
def test_a_duration_is_short(seconds, text):
    assert progress.duration(seconds) == text


def test_quick_work_stays_silent(capsys):
    with progress.lines("split"):
        list(progress.track(range(1000), "images", "image", 1000))
    assert capsys.readouterr() == ("", "")


def test_the_interval_is_half_a_minute():
    assert progress.INTERVAL == 30


def test_no_line_comes_after_the_end(capsys):
    with progress.lines("split", interval=0.02):
        wait_for(capsys, 1)
    time.sleep(0.05)
    capsys.readouterr()
    time.sleep(0.1)
    assert not capsys.readouterr().err


SCRIPT = """
import time
from thaw.core import progress
from thaw.core.errors import run
progress.INTERVAL = 0.1
def main():
    with progress.bar("features", 4) as bar:
        for _ in range(4):
            time.sleep(0.15)
            bar.update()
    print("stage: done")
run(main)
"""


def stage(tmp_path: Path, **streams: object) -> subprocess.Popen:
    (tmp_path / "stage.py").write_text(SCRIPT)
    environment = os.environ | {"DVC_STAGE": "stage", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen([sys.executable, tmp_path / "stage.py"], env=environment, **streams)


def test_a_stage_that_dvc_runs_without_a_terminal_prints_lines_on_stderr(tmp_path):
    out, err = stage(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).communicate(timeout=60)
    assert out == "stage: done\n"
    assert len(err.splitlines()) >= 3
    assert all(re.match(r"stage: features: \d of 4 images", line) for line in err.splitlines())


def test_in_a_terminal_a_stage_shows_a_bar_and_no_lines(tmp_path):
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    process = stage(tmp_path, stdout=subprocess.DEVNULL, stderr=end)
    os.close(end)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 1024)
        except OSError:  # Linux' way to say that the other end is closed
            break
        if not part:
            break
        shown += part
    assert process.wait(60) == 0
    assert b"features: 100%" in shown and b"stage: features" not in shown


@pytest.mark.parametrize("stage", STAGES)
def test_every_bar_of_a_stage_speaks_without_a_terminal(stage):
    """A bar of tqdm's own would be silent there."""
    own = {module for module in closure(ROOT / "src" / f"{stage}.py") if "tqdm" in module.read_text(encoding="utf-8")}
    assert own <= {ROOT / "src" / "thaw" / "core" / "progress.py"}
