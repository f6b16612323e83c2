"""What an edit of the source reruns: DVC is asked in a scratch clone in which the pipeline has run."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from dvc.repo import Repo

LIBRARY = ROOT / "src" / "thaw"
NOTHING = {
    "prediction",
    "exports",
    "experiments",
    "exploration",
    "guide",
    "handbook",
    "labelling",
    "support",
    "serving",
    "drift",
}  # tools that people run by hand
EVALUATE = {"evaluation", "report"}


def modules(package):
    return sorted(path.relative_to(ROOT) for path in (LIBRARY / package).glob("*.py"))


def changed(checkout, monkeypatch):
    """The stages that are out of date by themselves; DVC's status leaves out those that only follow them."""
    monkeypatch.chdir(checkout.path)
    with Repo() as repo:
        return set(repo.status()) - {"fingerprints"}  # in every run, since the photographs are a person's own


@pytest.fixture
def edit(finished_once, monkeypatch):
    """Edit files, ask which stages are out of date, and put the files back."""
    originals = {}

    def edited(changes):
        for name, change in changes.items():
            path = finished_once.path / name
            originals.setdefault(path, path.read_text(encoding="utf-8"))
            path.write_text(change(originals[path]), encoding="utf-8")
        stages = changed(finished_once, monkeypatch)
        restore()
        return stages

    def restore():
        for path, text in originals.items():
            path.write_text(text, encoding="utf-8")

    yield edited
    restore()


def comment(text):
    return f"{text}# edited\n"


def test_nothing_is_out_of_date_before_an_edit(finished_once, monkeypatch):
    assert changed(finished_once, monkeypatch) == set()


@pytest.mark.parametrize("package", sorted(EVALUATE))
def test_an_edit_of_what_measures_or_reports_reruns_evaluate_alone(edit, package):
    assert edit({modules(package)[0]: comment}) == {"evaluate"}  # each package is one dependency of `evaluate`
    assert edit(dict.fromkeys(modules(package), comment)) == {"evaluate"}


@pytest.mark.parametrize("package", sorted(NOTHING))
def test_an_edit_of_a_tool_reruns_nothing(edit, package):
    assert modules(package)
    assert edit(dict.fromkeys(modules(package), comment)) == set()


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("heads/network.py", {"train_head", "fine_tune", "evaluate"}),  # costs no extraction
        ("features/linear_probe.py", {"extract_features", "train_head", "fine_tune", "evaluate"}),
        ("features/resize_choice.py", {"extract_features", "train_head", "fine_tune", "evaluate"}),
    ],
)
def test_an_edit_of_what_trains_a_head_reruns_no_extraction_that_it_cannot_change(edit, module, stages):
    assert edit({(LIBRARY / module).relative_to(ROOT): comment}) == stages


def test_an_edit_of_a_script_that_is_run_by_hand_reruns_nothing(edit):
    scripts = sorted(path.relative_to(ROOT) for path in (ROOT / "src").glob("*.py"))
    stages = set(re.findall(r"python (src/\w+\.py)", (ROOT / "dvc.yaml").read_text()))
    by_hand = [path for path in scripts if path.as_posix() not in stages]
    assert len(by_hand) >= 8
    assert edit(dict.fromkeys(by_hand, comment)) == set()


SECTIONS = {  # a section of params.yaml: the module and class that describe it, and the stages that read it
    "download": ("parameters/download.py", "_ChosenSource", {"inputs", "download"}),
    "split": ("parameters/split.py", "Split", {"split", "evaluate"}),
    "augment": ("parameters/augment.py", "Augment", {"augment"}),
    "image": ("parameters/image.py", "Image", {"extract_features", "extract_activations"}),
    "backbone": ("parameters/backbone.py", "Backbone", {"backbone"}),
    "head": ("parameters/head.py", "Head", {"train_head", "evaluate"}),
    "fine_tune": ("parameters/fine_tune.py", "FineTune", {"fine_tune", "extract_activations"}),
    "evaluate": ("parameters/evaluate.py", "Evaluate", {"evaluate"}),
}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_new_key_makes_the_readers_of_its_section_alone_out_of_date(edit, finished_once, section):
    module, name, readers = SECTIONS[section]

    def with_field(text):
        new, count = re.subn(rf"^(class {name}\(\w+\):\n)", r"\1    new_key: int\n\n", text, flags=re.MULTILINE)
        assert count == 1
        return new

    def with_key(text):
        new, count = re.subn(rf"^({section}:\n)", r"\1  new_key: 1\n", text, flags=re.MULTILINE)
        assert count == 1
        return new

    stages = edit({Path("src/thaw") / module: with_field, Path("params.yaml"): with_key})
    assert stages == readers


def test_what_editors_and_notebooks_leave_behind_reruns_nothing(finished_once, monkeypatch):
    folder = finished_once.path / "src" / "thaw" / "core"
    leftovers = [
        *("__pycache__/files.cpython-311.pyc", ".ipynb_checkpoints/files-checkpoint.py", ".DS_Store", ".files.py.swp"),
        *("files.py~", "files.py.orig", "#files.py#", ".#files.py", "Thumbs.db", ".idea/workspace.xml"),
    ]
    for leftover in leftovers:
        (folder / leftover).parent.mkdir(exist_ok=True)
        (folder / leftover).write_text("left behind")
    assert changed(finished_once, monkeypatch) == set()
    (folder / "new_module.py").write_text("left behind")  # what is none of these does count
    assert len(changed(finished_once, monkeypatch)) == 10
    (folder / "new_module.py").unlink()
