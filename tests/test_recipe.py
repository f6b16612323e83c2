"""A recipe is applied to params.yaml: what it names changes, and nothing else does."""

import difflib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from thaw.core import params
from thaw.experiments import params_edit
from thaw.parameters.augment import NOTHING

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    return tmp_path


def recipe(folder: Path, name: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "src/recipe.py", name]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "recipes").glob("*.yaml"))])
def test_every_recipe_is_valid_and_takes_over_what_it_names(name, folder):
    assert recipe(folder, name).returncode == 0
    after = yaml.safe_load((folder / "params.yaml").read_text())
    params.load(folder / "params.yaml")

    def covered(part: dict, whole: dict) -> bool:
        return all(covered(v, whole[k]) if isinstance(v, dict) else whole[k] == v for k, v in part.items())

    assert covered(yaml.safe_load((folder / f"recipes/{name}.yaml").read_text()), after)


def test_a_recipe_that_names_photographs_names_their_task(folder):
    """Else it is refused, or means another thing, after one of several labels."""
    recipes = [params.flatten(yaml.safe_load(path.read_text())) for path in (folder / "recipes").glob("*.yaml")]
    assert not [values for values in map(dict, recipes) if "download.source" in values and "task" not in values]


OWN = {
    "download.source": "folder", "download.folder.path": "/mine", "download.added": "labelled/photographs.csv",
    "download.corrections": "labelled/corrections.csv", "download.new_classes": ["zebra"], "split.folds": "auto",
    "split.repeats": 3, "split.group": "meta_patient", "augment.preset": "auto", "augment.rotation": 33,
    "image.resize": "auto", "fine_tune.keep": "head",
}  # fmt: skip
PHOTOGRAPHS = ("alpaca", "animals-together", "elpv", "elpv-paper", "imagenet-alpaca", "mobilenetv2-alpaca",
               "resnet50-more-classes")  # fmt: skip
REFUSED = {("own-onnx", "elpv-paper")}  # it thaws the network, and one from a file cannot thaw


def drawn(parameters) -> list[tuple]:
    """How copies are drawn, without how many."""
    return [tuple(getattr(each, name) for name in NOTHING) for each in parameters.augment.candidates]


def after(*changes: dict) -> str:
    values = params_edit.read(ROOT / "params.yaml")
    for change in changes:
        params_edit.apply(values, change)
    return params_edit.dump(values)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "recipes").glob("*.yaml"))])
def test_a_recipe_is_valid_after_each_other_one_and_after_photographs_of_ones_own(name):
    recipe = params_edit.read(ROOT / f"recipes/{name}.yaml")
    alone = params.parse(after(recipe), name)
    befores = {path.stem: params_edit.read(path) for path in sorted((ROOT / "recipes").glob("*.yaml"))}
    for before, changes in (befores | {"photographs": params_edit.nest(OWN)}).items():
        if (before, name) in REFUSED:
            continue
        found = params.parse(after(changes, recipe), f"{before}, then {name}")
        if name in PHOTOGRAPHS:
            assert drawn(found) == drawn(alone), before
            assert (found.download.added, found.download.corrections, found.download.new_classes) == (None, None, [])
            assert (found.split.folds, found.split.repeats, found.split.after, found.split.group) == (
                None,
                1,
                None,
                None,
            )
        if not recipe.get("head", {}).get("extend"):
            assert found.head.extend is None, before


def test_only_the_lines_that_change_change_and_comments_stay(folder):
    before = (folder / "params.yaml").read_text()
    (folder / "recipes/one.yaml").write_text("split: {seed: 7}\nhead:\n  class_weight: balanced\n")
    output = recipe(folder, "one").stdout
    assert output.splitlines() == [
        "split.seed: 1 → 7", "head.class_weight: null → balanced", "recipe: 2 changes in params.yaml",
    ]  # fmt: skip
    after = (folder / "params.yaml").read_text()
    changed = [d for d in difflib.ndiff(before.splitlines(), after.splitlines()) if d[:2] in ("- ", "+ ")]
    assert [d[2:].split()[:2] for d in changed] == [
        ["seed:", "1"], ["seed:", "7"], ["class_weight:", "null"], ["class_weight:", "balanced"],
    ]  # fmt: skip
    assert "class_weight: balanced" in after and after.count("#") == before.count("#")


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "recipes").glob("*.yaml"))])
def test_comments_stay_where_dvc_has_put_lists_in_lines_of_their_own(name, folder):
    """As after `dvc exp run -S`, and in an experiment that was applied."""
    path = folder / "params.yaml"
    apply_overrides(path, ["fine_tune.epochs=5"])
    before = path.read_text()
    assert "\n  strengths:\n" in before
    params_edit.check(path, {"head.hidden": [], "download.new_classes": ["a"]}, Path("nowhere.json"))
    values = params_edit.read(path)
    params_edit.apply(values, params_edit.read(folder / f"recipes/{name}.yaml"))
    params_edit.apply(values, {"head": {"hidden": [], "strengths": [1.0]}})
    after = params_edit.dump(values)
    params.parse(after, name)
    assert re.findall("#.*", after) == re.findall("#.*", before)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_line_breaks_of_windows_and_a_byte_order_mark_stay(folder, mark):
    """Otherwise Git would show each line as changed."""
    path = folder / "params.yaml"
    before = mark + path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(before)
    assert recipe(folder, "alpaca").returncode == 0
    after = path.read_bytes()
    changed = [line for line in after.split(b"\r\n") if line not in before.split(b"\r\n")]
    assert after.startswith(mark) and b"\n" not in after.replace(b"\r\n", b"")
    assert 0 < len(changed) < 20


def test_applied_twice_nothing_changes(folder):
    recipe(folder, "alpaca")
    before = (folder / "params.yaml").read_bytes()
    assert recipe(folder, "alpaca").stdout == "recipe: params.yaml has it all already\n"
    assert (folder / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spilt: {seed: 1}", "unknown parameter spilt (did you mean split?)"),
        ("split: {sead: 1}", "unknown parameter split.sead (did you mean split.seed"),
        ("split: 3", "split is a section"),
        ("split: {seed: {a: 1}}", "split.seed is a value"),
        ("split: {seed: many}", "params.yaml with recipes/bad.yaml: split.seed should be a whole number, not 'many'"),
        ("download: {source: open_imges}", "did you mean open_images"),
        ("download: {open_images: {classes: [A, B]}}", "negatives must be null"),
        ("split: [", "recipes/bad.yaml is not valid YAML"),
        ("", "recipes/bad.yaml holds no parameters"),
    ],
)
def test_a_recipe_that_cannot_be_writes_nothing(text, message, folder):
    before = (folder / "params.yaml").read_bytes()
    (folder / "recipes/bad.yaml").write_text(text)
    process = recipe(folder, "bad")
    assert process.returncode == 1 and not process.stdout
    assert process.stderr.startswith("thaw: ") and process.stderr.count("\n") == 1 and message in process.stderr
    assert (folder / "params.yaml").read_bytes() == before


def test_a_recipe_that_does_not_exist_suggests_the_nearest(folder):
    assert "there is no recipe 'alpacca' in recipes (did you mean alpaca" in recipe(folder, "alpacca").stderr
