"""Each command in the README and the handbook is run: here, in a finished scratch repository, or by a named test.

Commands are the lines of the blocks `sh`. One that needs what no test has says so: `# needs a GPU`. Those that stand in
a sentence are read by the parser of their program.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from dvc.cli import parse_args
from PIL import Image

from thaw.handbook import scripts

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

# What is run here, in the order of the pages.
HERE = (
    "dvc repro", "dvc exp show", "dvc plots show", "python src/backbone.py ", "python src/predict.py ",
    "python src/recipe.py ",
)  # fmt: skip
# What is run elsewhere: how a command begins, the test that runs it or all that it does, and words of that test. A
# script, also one that a target of make runs, is found by its name.
ELSEWHERE = {
    "make repro": ("test_pipeline.py", ".repro("),
    "make test": ("test_structure.py", "def test_"),  # this run
    "make bench": ("test_benchmarks.py", "bench.main()"),
    "make lint": ("test_errors.py", '"ruff", "check"'),
    "dvc exp apply": ("test_experiments.py", '"exp", "apply"'),
    "dvc exp run --queue": ("test_experiments.py", '"exp", "run", "--queue"'),
    "dvc exp run -S": ("test_inputs.py", '"exp", "run", "--set-param"'),
    "dvc queue start": ("test_experiments.py", '"queue", "start"'),
    "source .venv/bin/activate": ("test_structure.py", "def test_"),  # by hand what make does
    ".venv/bin/uv pip install": ("test_fiftyone_setup.py", "requirements-fiftyone.txt"),  # needs PyPI
}
BY_ITS_LINES = {"share.md": "test_remotes.py"}  # a page whose blocks a test runs as they stand


def blocks(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(?:ba)?sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The commands of a page's blocks, without comments, one by one."""
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks(page) for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


def needing(page: Path) -> set[str]:
    """The commands that their comments say to need what tests have not, as a GPU or PyPI: `# needs …`."""
    lines = [line for block in blocks(page) for line in block.splitlines()]
    return {re.sub(r"\s+#.*", "", line).strip() for line in lines if re.search(r"\s# needs ", line)}


def mentioned(page: Path) -> list[str]:
    """The commands in a page's sentences, without those that have a gap or end with the name of an option."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"`((?:make|python|dvc) [^`]*)`", text)
    parts = [part.strip() for line in found for part in " ".join(line.split()).split("&&")]
    return [part for part in parts if not re.search(r"…| N$| (-S|--set-param|--local)$", part)]


BLOCKS = {command for page in PAGES for command in commands(page)}
IN_ORDER = [command for page in PAGES if page.name not in BY_ITS_LINES for command in commands(page)]


def problem(command: str) -> str:
    """What is wrong with a command, as its own program would say; empty if nothing is."""
    program, *arguments = shlex.split(command)
    if program == "make":
        unknown = [word for word in arguments if "=" not in word and word not in TARGETS]
        return f"there is no target {unknown[0]}" if unknown else ""
    if program == "dvc":
        only_name = all(word.isalpha() for word in arguments)  # or a whole command
        return refused(parse_args, [*arguments, *(["--help"] if only_name else [])])
    if program == "python" and arguments[0].startswith(("src/", "benchmarks/")):
        script, *options = arguments
        if not (ROOT / script).is_file():
            return f"there is no script {script}"
        if not options or script.startswith("benchmarks/"):
            return ""
        parser = scripts.parser_of(ROOT / script)
        if parser is None:
            return "it takes no arguments"
        only_name = all(word.isalpha() for word in options)  # or a whole command
        return refused(parser.parse_args, [*options, *(["--help"] if only_name else [])])
    return ""


def refused(parse: Callable, arguments: list[str]) -> str:
    try:
        parse(arguments)
    except SystemExit as end:
        return "it is refused" if end.code else ""
    except Exception as error:
        return f"it is refused: {error!r}"
    return ""


@pytest.mark.parametrize("command", sorted(BLOCKS.union(*map(mentioned, PAGES))))
def test_every_command_is_one_that_its_program_takes(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert not problem(command)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("make reppro", "no target"), ("python src/predict.py x.png --stes 0.95", "refused"),
        ("dvc remote modifyy store shared group", "refused"), ("python src/predikt.py x.png", "no script"),
        ("python src/split.py --seed 1", "no arguments"),
    ],
)  # fmt: skip
def test_a_command_that_fails_is_found(command, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert words in problem(command)


@pytest.mark.parametrize("command", sorted({*IN_ORDER}))
def test_every_command_is_run_by_a_test(command):
    if command.startswith(HERE) or any(command in needing(page) for page in PAGES):
        return
    known = [begin for begin in ELSEWHERE if f"{command} ".startswith(f"{begin} ")]
    if known:
        name, words = ELSEWHERE[max(known)]
        assert words in (ROOT / "tests" / name).read_text(encoding="utf-8")
        return
    found = re.findall(r"(?:src|benchmarks)/(\w+)\.py", planned(command) if command.startswith("make") else command)
    assert found, "no test runs this command: add it to HERE or ELSEWHERE"
    others = [path for path in (ROOT / "tests").glob("test_*.py") if path.name != Path(__file__).name]
    texts = [path.read_text(encoding="utf-8") for path in others]
    assert not [script for script in found if not any(re.search(rf"\b{script}\b", text) for text in texts)]


def planned(command: str) -> str:
    """What a command of make would run."""
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", BY_ITS_LINES)
def test_the_blocks_of_a_page_are_run_by_its_test(page):
    (path,) = [path for path in PAGES if path.name == page]
    text = (ROOT / "tests" / BY_ITS_LINES[page]).read_text(encoding="utf-8")
    assert path.relative_to(ROOT).as_posix() in text
    named = re.findall(r'lines\("([^"]+)"', text)  # words by which the test takes a block
    assert blocks(path)
    assert not [block for block in blocks(path) if not any(words in block for words in named)]


@pytest.mark.parametrize("command", [command for command in IN_ORDER if command.startswith(HERE)])
def test_commands_run(finished_once, command):
    example = finished_once.path / "data/raw/images/cell0001.png"
    for photograph in (example, finished_once.path / "photograph.jpg"):
        Image.new("RGB", (64, 64)).save(photograph)
    if command.startswith("dvc repro"):  # as it is where nothing changed: a recipe before it may need the net
        example.unlink()
        finished_once.run("git", "checkout", "--quiet", "params.yaml", check=True)
    program, *arguments = shlex.split(command)
    done = finished_once.run(sys.executable, *(["-m", "dvc"] if program == "dvc" else []), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_in_each_help_is_one_that_the_script_takes(monkeypatch):
    monkeypatch.chdir(ROOT)
    for script in sorted((ROOT / "src").glob("*.py")):
        if parser := scripts.parser_of(script):
            example = re.search(r"^example: (.+)$", parser.epilog or "", re.MULTILINE)
            assert example, f"{script.name} has no example"
            assert not problem(re.sub(r" > \S+$", "", example[1])), script


def test_every_target_of_make_is_explained():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE)) == TARGETS
    assert all(planned(f"make {target}") for target in TARGETS)
