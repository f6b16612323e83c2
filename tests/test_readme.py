"""The README and the handbook say of the default run what the committed reports say, and name only what is there."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from dependencies import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = ROOT / "docs" / "reference"
TEXTS = {path: " ".join(path.read_text(encoding="utf-8").split()) for path in PAGES}
README = TEXTS[ROOT / "README.md"]
HANDBOOK = " ".join(text for path, text in TEXTS.items() if not path.is_relative_to(GENERATED))
METRICS = json.loads((ROOT / "reports" / "metrics.json").read_text())


def between(scores: dict, key: str) -> str:
    return f"{100 * scores[f'{key}_low']:.1f} to {100 * scores[f'{key}_high']:.1f}"


def test_the_accuracies_are_those_of_the_committed_run():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    if params["download"]["source"] != "elpv":
        pytest.skip("the README speaks of the solar cells, and params.yaml of other photographs")
    head, tuned = (METRICS[model]["test"] for model in ("head", "fine_tuned"))
    gain = METRICS["comparison"]["fine_tuned_against_head"]
    assert (
        f"those after `{params['fine_tune']['freeze_depth']}`, as well. Both were measured on the 656 test "
        "photographs of solar cells, each weighted by how sure its label is. The head is right for "
        f"{100 * head['accuracy_weighted']:.1f} % (95 % interval {between(head, 'accuracy_weighted')}), the fine-tuned "
        f"model for {100 * tuned['accuracy_weighted']:.1f} % ({between(tuned, 'accuracy_weighted')}). "
        f"The difference is {100 * gain['accuracy_weighted']:.1f} points ({between(gain, 'accuracy_weighted')}): "
    ) in README


def test_the_readme_is_a_front_door():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_make_target_and_script_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)`", HANDBOOK)) <= targets
    scripts = set(re.findall(r"python ((?:src|benchmarks)/\w+\.py)", HANDBOOK))
    assert len(scripts) > 10
    assert all((ROOT / script).is_file() for script in scripts)


def test_every_script_that_people_run_is_named_in_a_guide():
    """What `make` alone runs is named by its target."""
    by_make = {"result", "photographs", "share", "compare", "handbook", "doctor"}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    scripts = {path.stem for path in (ROOT / "src").glob("*.py")} - {*stages} - by_make
    assert not {script for script in scripts if f"src/{script}.py" not in HANDBOOK}


def test_every_parameter_that_is_named_exists():
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    named = set(re.findall(rf"\b(?:{'|'.join(values)})\.[a-z_]+(?:\.[a-z_]+)*", HANDBOOK))
    assert len(named) > 40
    files = {"backbone.py", "split.csv", "image.json", "evaluate.py"}
    assert named - set(dotted_names(values)) <= files


def dotted_names(values: dict) -> Iterator[str]:
    for key, value in values.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{name}" for name in dotted_names(value))


def test_every_artifact_that_is_named_is_an_output():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    entries = [entry for stage in stages for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    outputs = [f"{entry if isinstance(entry, str) else next(iter(entry))}/" for entry in entries]
    named = {f"{path.rstrip('/')}/" for path in re.findall(r"`((?:data|models|reports)/[\w./-]*)`", HANDBOOK)}
    by_hand = {
        "models/exports/",
        "reports/comparison.svg/",
        "reports/drift.html/",
    }  # of export.py, compare.py, drift.py
    named -= by_hand
    assert len(named) >= 20
    assert not [path for path in named if not any(path.startswith(out) or out.startswith(path) for out in outputs)]


def test_every_recipe_is_listed():
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert f"`{recipe.stem}`" in HANDBOOK, recipe
