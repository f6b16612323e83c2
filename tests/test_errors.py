"""A person's mistake or a full disk ends a script with one line and exit status 1; a bug of Thaw is not hidden."""

import ast
import errno
import io
import json
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import psutil
import pytest

from thaw.core import encodings, errors, kernels
from thaw.core.errors import did_you_mean, run

SRC = Path(__file__).parent.parent / "src"

# What each module writes, with room for one kilobyte.
WRITERS = {
    "a short table": "tables.write(pl.DataFrame({'image_id': [str(i) for i in range(1000)]}), Path('output'))",
    "a long table": "tables.write(pl.DataFrame({'image_id': [str(i) for i in range(300_000)]}), Path('output'))",
    "an array": "arrays.write_rows(Path('output'), [np.zeros((10, 1000))] * 2, 20)",
    "a head": "with atomic_folder(Path('output')) as folder: head.save(folder)",
    "a short contact sheet": "contact_sheet.write(noise, Path('output'))",
    "a long contact sheet": "contact_sheet.write(noise * 40, Path('output'))",
    "photographs": "collect(listing, Path('raw'))",
}
FULL_DISK = """
import thaw.core.errors  # first, as in every script: otherwise `run` starts it again, see `kernels`
import json, resource, sys
from pathlib import Path
import numpy as np
import polars as pl
from PIL import Image
from thaw.core import arrays, tables
from thaw.core.errors import run
from thaw.core.files import atomic_folder
from thaw.heads.linear import LinearHead
from thaw.images import contact_sheet
from thaw.sources.base import DatasetInfo, Listing, SourceImage
from thaw.sources.collection import collect

noise = [np.random.default_rng(0).integers(0, 256, (2, 50, 50, 3), np.uint8)]
for name in "ab":
    Image.fromarray(noise[0][0]).save(f"{name}.png")
images = [SourceImage(name, Path(f"{name}.png"), name) for name in "ab"]
listing = Listing(DatasetInfo("test", "", "", ("a", "b")), images)
head = LinearHead(np.zeros((1280, 2), np.float32), np.zeros(2, np.float32), ("a", "b"), 1.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
endings = {}
for writer, line in json.loads(sys.argv[1]).items():
    try:
        run(lambda: exec(line))
        ending = "no error"
    except BaseException as error:
        ending = f"{type(error).__name__}: {error}"
    left = [path.name for path in Path().iterdir() if "output" in path.name or "partial" in path.name]
    endings[writer] = ending, left
    Path("output").unlink(missing_ok=True)
print(json.dumps(endings))
"""


def ending(error: BaseException) -> str:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert "\n" not in caught.value.code
    return caught.value.code


# Without byte code: a truncated file of it must not stay in the environment.
ENVIRONMENT = {"PYTHONPATH": str(SRC), "PYTHONDONTWRITEBYTECODE": "1"}


def script(tmp_path: Path, program: str, *arguments: str) -> subprocess.CompletedProcess:
    (tmp_path / "script.py").write_text(program)
    return subprocess.run(
        [sys.executable, "script.py", *arguments], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )


def stage(tmp_path: Path, line: str) -> subprocess.CompletedProcess:
    """Run a script whose `main` is the given line, as people run a stage."""
    return script(tmp_path, f"from thaw.core.errors import *\ndef main():\n    {line}\nrun(main)\n")


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory) -> dict[str, tuple[str, list[str]]]:
    """How each writer ends on a full disk, and what it leaves."""
    done = script(tmp_path_factory.mktemp("full"), FULL_DISK, json.dumps(WRITERS))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_script_without_a_mistake_ends_well(tmp_path):
    done = stage(tmp_path, "print('made')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "made\n", "")


def test_a_mistake_is_one_line_without_a_traceback(tmp_path):
    done = stage(tmp_path, r"raise ThawError('the first line\n  and the second')")
    assert (done.returncode, done.stderr) == (1, "thaw: the first line and the second\n")


def test_a_mistake_with_a_name_in_any_bytes_is_one_line(tmp_path):
    done = stage(tmp_path, r"raise ThawError('no file \udcff.jpg')")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM])
def test_what_keeps_a_file_from_being_written_is_one_line_that_names_it(number):
    line = ending(OSError(number, "no room", "data/split.csv"))
    assert line.startswith("thaw: cannot write: data/split.csv: no room")


def test_the_name_of_a_file_in_an_error_of_the_system_is_one_line():
    assert ending(OSError(errno.EACCES, "no", "a\nb\x1b")).startswith(r"thaw: cannot write: a\nb\x1b: no")
    assert ending(OSError(errno.EACCES, "no", b"a\xff")).startswith("thaw: cannot write: a")


def test_a_file_that_may_not_be_read_is_not_called_one_that_cannot_be_written(tmp_path, monkeypatch):
    file = tmp_path / "closed.png"
    file.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)  # root may read all
    assert ending(OSError(errno.EACCES, "Permission denied", str(file))).startswith(f"thaw: cannot read: {file}: ")


def test_an_interruption_is_one_line_and_only_a_stage_is_started_again():
    assert ending(KeyboardInterrupt()) == "thaw: interrupted; no incomplete output was kept"
    stage = "from thaw.core.errors import run; run(lambda: (_ for _ in ()).throw(KeyboardInterrupt), 'A stage.')"
    result = subprocess.run([sys.executable, "-c", stage], env=ENVIRONMENT, capture_output=True, text=True)
    assert result.stderr == "thaw: interrupted; the next run starts this stage again\n"


def test_a_name_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "notes.txt").touch()
    for number, name in ((errno.ENOTDIR, "notes.txt/x"), (errno.EEXIST, "notes.txt"), (errno.ENAMETOOLONG, "x" * 300)):
        said = ending(OSError(number, os.strerror(number), str(tmp_path / name)))
        assert said.startswith(f"thaw: cannot use: {tmp_path / name}: {os.strerror(number)}")


def test_a_script_exits_silently_when_stdout_is_closed_early():
    program = "from thaw.core.errors import run; run(lambda: [print(n) for n in range(100_000)])"
    command = f"{sys.executable} -c '{program}' | head -1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SRC)}
    )
    assert (result.returncode, result.stdout, result.stderr) == (141, "0\n", "")  # what it had to do is not done


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EIO, "input/output error"), KeyError("x")])
def test_a_bug_of_thaw_is_raised(error):
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        run(main)


# Names that a terminal cannot show

LOCALES = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "a code page of Windows": {"PYTHONIOENCODING": "cp1252"},
    "another code page": {"PYTHONIOENCODING": "cp437"},
    "no locale, and no UTF-8 mode": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "no locale": {"LC_ALL": "C"},
    "UTF-8": {"LC_ALL": "C.UTF-8"},
}
PRINTS = """
import os, sys
from pathlib import Path
from thaw.core.errors import ThawError, run
from thaw.core.encodings import printable

def main():
    for name in sorted(os.listdir("names")):
        Path("names", name).read_bytes()
        print(name, name.isascii(), printable(name) == name, len(name))
    Path("names/made-é").touch()  # as a table names it
    print("→", file=sys.stderr, flush=True)
    raise ThawError("the end of 猫")

run(main)
"""


@pytest.mark.parametrize("locale", LOCALES)
def test_any_name_is_read_and_printed_in_any_locale(tmp_path, locale):
    (tmp_path / "names").mkdir()
    for name in ("café", "猫"):
        (tmp_path / "names" / name).touch()
    (tmp_path / "script.py").write_text(PRINTS, encoding="utf-8")
    environment = ENVIRONMENT | {"PATH": os.environ["PATH"]} | LOCALES[locale]
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 1
    assert [line.split(b" ", 1)[1] for line in done.stdout.splitlines()] == [b"False True 4", b"False True 1"]
    assert done.stderr.count(b"\n") == 2 and b"Traceback" not in done.stderr
    assert (tmp_path / "names" / "made-é").exists()


@pytest.mark.parametrize("locale", ["no locale, and no UTF-8 mode", "UTF-8"])
def test_what_is_said_of_kernels_is_said_once_in_any_locale(tmp_path, locale):
    if not kernels.processor_flags() >= kernels.NEEDED:
        pytest.skip("this processor has no kernels of the baseline")
    environment = ENVIRONMENT | {"PATH": os.environ["PATH"], "OPENBLAS_CORETYPE": "Sandybridge"} | LOCALES[locale]
    command = [sys.executable, SRC / "recipe.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.count("OPENBLAS_CORETYPE=Sandybridge is replaced by Haswell") == 1, done.stderr


def test_a_name_that_turns_a_line_around_is_escaped_in_every_error():
    assert ending(errors.ThawError("no file cat\u202egpj.exe\u200b, a\x9b2Kb")) == (
        "thaw: no file cat\\u202egpj.exe\\u200b, a\\x9b2Kb"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("caf\u00e9 \u732b \u05d7\u05ea\u05d5\u05dc", None),  # with Hebrew
        ("\u0645\u06cc\u200c\u062e", None),
        ("\U0001f469\u200d\U0001f33e", None),
        ("\u2764\ufe0f\u200d\U0001f525", None),
        ("1\ufe0f\u20e3", None),
        ("\u0661\u0600", None),
        ("hot\u00a0dog", None),
        ("a\nb\u2028\x1b", r"a\nb\u2028\x1b"),
        ("a\udce9", r"a\xe9"),
        ("lab\ud800", r"lab\ud800"),  # of JSON
        ("\u200ecat\ufeff", r"\u200ecat\ufeff"),
        ("cat\u2066\u3164", r"cat\u2066\u3164"),
    ],
)
def test_a_name_is_shown_as_text_of_one_line_in_its_order(name, text):
    assert encodings.shown(name) == (text or name)


def test_a_character_that_cannot_be_shown_is_printed_as_its_number(monkeypatch):
    encodings_ = {"ascii": b"caf\\xe9 \\u2192\n", "cp1252": b"caf\xe9 \\u2192\n", "utf-8": "café →\n".encode()}
    for encoding, written in encodings_.items():
        buffer = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding, newline="\n"))
            run(lambda: print("café →"))
            sys.stdout.flush()
            assert buffer.getvalue() == written


def test_a_script_may_be_started_without_standard_streams(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    read = []

    def main() -> None:
        print("lost", sys.stdout.isatty(), file=sys.stderr)
        read.append(sys.stdin.buffer.read())

    run(main)
    assert read == [b""]


SCRIPTS = sorted(SRC.glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_prints_and_ends_through_run(path):
    """So its names can be printed, and its errors are one line."""
    text = path.read_text(encoding="utf-8")
    call = "run(main)" if "argparse" in text else "run(main, stage=__doc__)"
    assert ast.unparse(ast.parse(text).body[-1]) == f"if __name__ == '__main__':\n    {call}"


def test_a_stage_without_options_explains_itself_and_refuses_arguments():
    """`--help` must not run it."""

    def script(*arguments: str):
        return subprocess.run([sys.executable, SRC / "split.py", *arguments], capture_output=True, text=True)

    helped = script("--help")
    assert helped.returncode == 0
    assert "Assign every photograph to train, validation or test" in helped.stdout
    assert helped.stdout.rstrip().endswith("example: dvc repro split")
    refused = script("--seed", "2")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "unrecognized arguments: --seed 2" in refused.stderr


def test_every_text_file_is_opened_in_a_named_encoding():
    checked = [sys.executable, "-m", "ruff", "check", "--isolated", "--preview", "--select", "PLW1514", str(SRC)]
    done = subprocess.run(checked, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


STAGE = """
import os, sys, time
from pathlib import Path
from thaw.core.errors import run

def wait_for(condition):
    while not condition():
        time.sleep(0.01)

def main():
    Path("started").touch()
    MAIN
    print("ended", flush=True)

BEFORE
run(main)
"""
DVC = """
import os, subprocess
subprocess.run(COMMAND, shell=True, env=os.environ | STAGE_NAME)
"""
STAGE_NAME = {"DVC_STAGE": "train_head"}


def write_stage(folder: Path, main: str = "", before: str = "") -> None:
    (folder / "script.py").write_text(STAGE.replace("MAIN", main).replace("BEFORE", before))


def start(folder: Path, *command: str, **options):
    """Start a process; its output and that of its children comes through a pipe that closes when all have ended."""
    return subprocess.Popen([sys.executable, *command], cwd=folder, stdout=subprocess.PIPE, text=True, **options)


@pytest.fixture(params=["a shell stays between", "a shell gives way"])
def start_dvc(tmp_path, request):
    """Return a function that starts the stage as DVC does, in its own session, like one of a terminal."""
    command = {"a shell stays between": "{} script.py; true", "a shell gives way": "exec {} script.py"}[request.param]
    program = DVC.replace("COMMAND", repr(command.format(sys.executable))).replace("STAGE_NAME", repr(STAGE_NAME))
    return lambda: start(tmp_path, "-c", program, env=ENVIRONMENT, start_new_session=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stage_ends_when_the_dvc_that_started_it_is_killed(tmp_path, start_dvc):
    write_stage(tmp_path, main="time.sleep(60)")
    dvc = start_dvc()
    wait_for(tmp_path / "started")
    dvc.kill()
    assert "ended" not in dvc.communicate(timeout=30)[0]


def test_a_stage_whose_dvc_was_killed_during_its_imports_does_not_begin(tmp_path, start_dvc):
    write_stage(tmp_path, before="Path('imports').touch(); wait_for(Path('killed').exists)")
    dvc = start_dvc()
    wait_for(tmp_path / "imports")
    dvc.kill()
    dvc.wait()
    (tmp_path / "killed").touch()
    assert dvc.communicate(timeout=30)[0] == ""
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("error", [psutil.NoSuchProcess(7), psutil.AccessDenied(7)])
def test_a_parent_that_cannot_be_inspected_is_the_last_ancestor(monkeypatch, error):
    def refuse(process: psutil.Process) -> dict[str, str]:
        raise error

    monkeypatch.setattr(psutil.Process, "environ", refuse)
    assert errors._ancestors_up_to_dvc("train_head") == [os.getppid()]


def test_a_stage_waits_for_an_earlier_run_of_itself_and_says_so(tmp_path):
    write_stage(tmp_path, main="wait_for(Path('go').exists)")
    first = start(tmp_path, "script.py", env=ENVIRONMENT | STAGE_NAME)
    wait_for(tmp_path / "started")
    (tmp_path / "started").unlink()
    second = start(tmp_path, "script.py", env=ENVIRONMENT | STAGE_NAME)
    line = second.stdout.readline()
    assert "train_head: waiting for an earlier run of this stage" in line
    assert "pgrep -f script.py" in line
    assert not (tmp_path / "started").exists()
    (tmp_path / "go").touch()
    assert first.communicate(timeout=30)[0] == "ended\n"
    assert second.communicate(timeout=30)[0] == "ended\n"


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(full_disk, writer):
    ending, left = full_disk[writer]
    assert ending.startswith("SystemExit: thaw: cannot write")
    assert "\n" not in ending
    assert left == (["output"] if writer == "an array" else [])  # an array is written into an atomic folder


def test_the_nearest_names_come_with_a_wrong_one():
    assert did_you_mean("blokc5", ["block4", "block5", "stem"]) == " (did you mean block5, block4?)"


def test_the_valid_names_come_with_one_that_is_near_none():
    assert did_you_mean("xyz", ["block4", "stem"]) == " (valid: block4, stem)"


def test_packages_that_pythonpath_puts_in_the_place_of_those_of_the_environment_are_said(tmp_path):
    (tmp_path / "modules/numpy").mkdir(parents=True)
    (tmp_path / "modules/numpy/__init__.py").touch()
    (tmp_path / "modules/scipy").mkdir()  # no package: nothing is replaced
    script = "from thaw.core.errors import run; run(lambda: print('done'))"
    paths = os.pathsep.join([str(SRC), "", sysconfig.get_path("purelib"), str(tmp_path / "modules")])
    environment = ENVIRONMENT | {"PYTHONPATH": paths}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert result.stdout == "done\n"
    said = "thaw: PYTHONPATH has another numpy: results may differ; unset PYTHONPATH\n"
    assert result.stderr == said
