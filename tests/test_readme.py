"""The README says of the default run what the committed reports say."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from dependencies import ROOT

README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
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
        f"the head alone gets {100 * head['accuracy_weighted']:.1f} % right (95 % interval "
        f"{between(head, 'accuracy_weighted')}), and the network thawed behind `{params['fine_tune']['freeze_depth']}` "
        f"{100 * tuned['accuracy_weighted']:.1f} % ({between(tuned, 'accuracy_weighted')}): "
        f"{100 * gain['accuracy_weighted']:.1f} points more ({between(gain, 'accuracy_weighted')}) on the same ones"
    ) in README


def test_every_make_target_and_script_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)`", README)) <= targets
    scripts = set(re.findall(r"python ((?:src|benchmarks)/\w+\.py)", README))
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)


def test_every_parameter_that_is_named_exists():
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    named = set(re.findall(rf"\b(?:{'|'.join(values)})\.[a-z_]+(?:\.[a-z_]+)*", README))
    assert len(named) > 20
    assert named - set(dotted_names(values)) <= {"backbone.py", "split.csv"}  # files


def dotted_names(values: dict) -> Iterator[str]:
    for key, value in values.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{name}" for name in dotted_names(value))


def test_every_artifact_that_is_named_is_an_output():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    entries = [entry for stage in stages for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    outputs = [f"{entry if isinstance(entry, str) else next(iter(entry))}/" for entry in entries]
    named = {f"{path.rstrip('/')}/" for path in re.findall(r"`((?:data|models|reports)/[\w./-]*)`", README)}
    named -= {"models/exports/"}  # of src/export.py
    assert named
    assert not [path for path in named if not any(path.startswith(out) or out.startswith(path) for out in outputs)]


def test_every_recipe_is_listed():
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert f"`{recipe.stem}`" in README, recipe
