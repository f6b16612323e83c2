"""The rules of the house, read from the source: what stages declare, what modules may import, what is committed."""

import functools
import graphlib
import re
import subprocess
import tomllib

import pytest
import yaml
from dependencies import ROOT, SRC, closure, imports, parameters_read, source_deps, strings
from dvc_data.hashfile.meta import Meta

from thaw.core import params

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]
LIBRARY = sorted((SRC / "thaw").rglob("*.py"))
TRAINING = {"fine_tune"}  # the stages that import Keras at their start
DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text())
LEFT_OUT = {Meta.PARAM_SIZE, Meta.PARAM_NFILES}  # see dvc.stage.cache._get_cache_hash
ARTIFACT = re.compile(r"(data|models|reports)/\S+")

each_stage = pytest.mark.parametrize("stage", STAGES)


def script(stage):
    return SRC / f"{stage}.py"


def relative(paths):
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def declared(stage, kinds=("deps", "outs", "metrics", "plots")):
    """The paths of a stage."""
    entries = [entry for kind in kinds for entry in STAGES[stage].get(kind, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def outputs(stage):
    return declared(stage, ("outs", "metrics", "plots"))


def is_within(path, whole):
    return f"{path}/".startswith(f"{whole}/")


@each_stage
def test_stage_depends_on_the_packages_and_modules_it_imports(stage):
    found = [dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")]
    expected = source_deps(script(stage))
    listing = "\n".join(f"      - {dep}" for dep in expected)
    assert sorted(found) == expected, f"in dvc.yaml, the deps of {stage} in src/ should be:\n{listing}"


@each_stage
def test_stage_names_exactly_the_parameters_it_reads(stage):
    read = parameters_read(script(stage))
    assert read, f"no `params.load(…).section` was found in {stage}.py"
    own = {parameter for parameter in STAGES[stage]["params"] if isinstance(parameter, str)}  # of params.yaml
    assert own == set().union(*map(told_apart, read))


def told_apart(parameter):
    """A section key by key where DVC's run cache, which leaves out some keys of a section, would take two values for
    one; else as it is."""
    value = functools.reduce(dict.get, parameter.split("."), DEFAULTS)
    if isinstance(value, dict) and LEFT_OUT & value.keys():
        return {f"{parameter}.{key}" for key in value}
    assert not LEFT_OUT & set(re.findall(r"'(\w+)':", repr(value)))
    return {parameter}


@each_stage
def test_stage_declares_every_path_its_script_names(stage):
    named = {string for string in strings(script(stage)) if ARTIFACT.fullmatch(string)}
    undeclared = {path for path in named if not any(is_within(path, whole) for whole in declared(stage))}
    of_params = {path for entry in STAGES[stage]["params"] if isinstance(entry, dict) for path in entry}
    folders = {path for path in undeclared if any(is_within(part, path) for part in declared(stage))}
    assert not undeclared - folders - of_params


@each_stage
def test_stage_uses_every_path_it_declares(stage):
    named = {string for string in strings(script(stage)) if ARTIFACT.fullmatch(string)}
    artifacts = {path for path in declared(stage) if ARTIFACT.fullmatch(path)}
    if stage != "fingerprints":
        artifacts -= outputs("fingerprints")  # they only say that what a stage reads elsewhere has changed
    assert not {path for path in artifacts if not any(is_within(path, name) for name in named)}


@each_stage
def test_stage_runs_the_script_of_its_name_and_says_what_it_does(stage):
    assert STAGES[stage]["cmd"] == f"python src/{stage}.py"
    assert STAGES[stage].get("desc")


def test_pipeline_has_the_nine_stages_behind_two_that_look_at_what_lies_elsewhere():
    assert list(STAGES) == [
        "inputs", "fingerprints",
        "download", "split", "augment", "backbone", "extract_features", "train_head", "extract_activations",
        "fine_tune", "evaluate",
    ]  # fmt: skip


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in TRAINING])
def test_stage_that_does_not_train_imports_no_tensorflow(stage):
    at_start = closure(script(stage), lazy=False)
    assert SRC / "thaw" / "engines" / "tensorflow_setup.py" not in at_start
    heavy = re.compile(r"^(?:import|from) (tensorflow|keras)\b", re.MULTILINE)
    assert not [path for path in at_start if heavy.search(path.read_text())]


@pytest.mark.parametrize("module", LIBRARY, ids=lambda path: path.relative_to(SRC).as_posix())
def test_library_names_no_fixed_path(module):
    artifacts = {"data", "params.yaml", "dvc.yaml"} | set().union(*map(outputs, STAGES))
    named = [s for s in strings(module) if "/" in s or s.endswith(".yaml")]
    assert not [path for path in named if any(is_within(path, artifact) for artifact in artifacts)]


def test_library_imports_no_script():
    scripts = set(SRC.glob("*.py"))
    assert not {module.name: found for module in LIBRARY if (found := imports(module) & scripts)}


ROOMS = {"sources": "sources", "backbones": "backbones", "metrics": "evaluation/metrics.py"}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_know_nothing_of_one_another(room):
    place = SRC / "thaw" / ROOMS[room]
    modules = list(place.rglob("*.py")) or [place]
    reached = {path for module in modules for path in closure(module)}
    others = [SRC / "thaw" / other for name, other in ROOMS.items() if name != room]
    strangers = {path for path in reached if any(path.is_relative_to(other) for other in others)}
    assert modules and not strangers


def package(module):
    return module.relative_to(SRC / "thaw").parts[0]


def test_packages_import_one_another_in_no_circle():
    """Nor do modules: one of two in a circle could not be read without the other."""
    graphs = {"modules": {}, "packages": {}}
    for module in LIBRARY:
        found = imports(module)
        graphs["modules"][module] = found
        graphs["packages"].setdefault(package(module), set()).update({*map(package, found)} - {package(module)})
    for graph in graphs.values():
        assert graph
        graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


NOTHING_RERUNS = (
    "prediction", "exports", "experiments", "exploration", "guide", "handbook", "labelling", "support", "serving",
    "drift",
)  # fmt: skip
WALLS = {  # what a stage must not import: an edit there is to rerun no more than it can change
    **{room: set(STAGES) for room in NOTHING_RERUNS},
    **{room: set(STAGES) - {"evaluate"} for room in ("evaluation", "report")},
}


@pytest.mark.parametrize("room", WALLS)
def test_no_stage_imports_through_a_wall(room):
    assert (SRC / "thaw" / room).is_dir()
    through = {stage for stage in WALLS[room] if room in {package(m) for m in closure(script(stage)) - {script(stage)}}}
    assert not through


def test_the_pipeline_names_few_files_of_the_source():
    counts = [sum(dep.startswith("src/") for dep in stage["deps"]) for stage in STAGES.values()]
    assert sum(counts) / len(counts) <= 8


def test_no_committed_file_names_a_package_registry():
    hosts = [r"\.".join(parts) for parts in (("files", "pythonhosted"), ("pypi", "org/simple"))]
    patterns = ["--(?:extra-)?index-url", "--find-l[i]nks", *hosts, r"https?://\S*/(?:simple\b|packages/)"]
    address = re.compile("|".join(patterns).encode())
    committed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name.decode() for name in committed.split(b"\0") if name]
    assert files
    assert not [path for path in files if path.is_file() and address.search(path.read_bytes())]


def requirements(file="requirements.txt"):
    """The blocks of a file of requirements, one a package, by name."""
    text = (ROOT / file).read_text()
    return {block.partition("==")[0]: block for block in re.split(r"^(?=[a-zA-Z0-9])", text, flags=re.MULTILINE)[1:]}


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-docs.txt", "requirements-ray.txt"])
def test_every_requirement_is_pinned_and_hashed(file):
    pinned = requirements(file)
    loose = [name for name, block in pinned.items() if not re.search(r"==\S[\s\S]*--hash=sha256:\w{64}", block)]
    assert pinned and not loose


@pytest.mark.parametrize(("file", "package"), [("docs", "mkdocs-material"), ("ray", "ray")])
def test_the_handbook_and_a_cluster_have_the_versions_that_the_project_uses(file, package):
    project, other = requirements(), requirements(f"requirements-{file}.txt")
    assert package in other
    differing = [name for name in other.keys() & project.keys() if other[name].split()[0] != project[name].split()[0]]
    assert not differing


def test_requirements_are_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    names = {re.match(r"[\w.-]+", line)[0].lower(): line for line in wanted}
    pinned = requirements()
    assert not set(names) - set(pinned), "run `make requirements`"
    exact = {name: line.partition("==")[2] for name, line in names.items() if "==" in line}
    assert not {name for name, version in exact.items() if not pinned[name].startswith(f"{name}=={version} ")}
    asked = {name for name, block in pinned.items() if re.search(r"# via(?: thaw|[^#]*#   thaw)", block)}
    assert not asked - set(names), "requirements.txt holds more than pyproject.toml asks for: run `make requirements`"


def test_default_parameters_are_valid():
    params.load(ROOT / "params.yaml")


def test_every_parameter_is_explained_where_it_stands():
    """On its line, or on a line of comment right before or after it."""
    lines = (ROOT / "params.yaml").read_text().splitlines()
    bare, section = [], ""
    for before, line, after in zip(lines, lines[1:], [*lines[2:], ""], strict=False):
        if not line.startswith(" "):
            section = line.rstrip(":")
        elif re.match(r"\s+\w+:\s+[^#\s]", line):
            key = line.partition(":")[0].strip()
            if not ("#" in line or before.strip().startswith("#") or after.strip().startswith("#")):
                bare.append(f"{section}.{key}")
    assert not bare
