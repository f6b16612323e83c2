"""What a change reruns, read from the pipeline: for each parameter, and for each package of the library."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

LOOK = "fingerprints"  # its outputs change only if a person's files do: nothing follows from its run alone


def paths(stage: Mapping, kinds: Sequence[str]) -> list[str]:
    """Return the paths of a stage in the lists `kinds` of dvc.yaml, without what stands beside them."""
    entries = [entry for kind in kinds for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def outputs(stage: Mapping) -> list[str]:
    """Return what a stage writes."""
    return paths(stage, ("outs", "metrics", "plots"))


def parameters_of(stage: Mapping) -> list[str]:
    """Return the parameters of params.yaml that a stage reads, as dvc.yaml names them: keys or whole sections."""
    return [parameter for parameter in stage.get("params", []) if isinstance(parameter, str)]


def following(stages: Mapping[str, Mapping], changed: set[str]) -> list[str]:
    """Return the stages that may run after a change of what these stages read, in the order of the pipeline.

    A stage follows another if it reads an output of it. That of `fingerprints` alone makes nothing run.
    """
    running = set(changed)
    written = {path: name for name, stage in stages.items() if name != LOOK for path in outputs(stage)}
    grown = True
    while grown:
        readers = {
            name for name, stage in stages.items() if any(written.get(dep) in running for dep in paths(stage, ["deps"]))
        }
        grown = not readers <= running
        running |= readers
    return [name for name in stages if name in running]


def by_parameter(stages: Mapping[str, Mapping], names: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (parameters, stages that a change of one of them may run), for each set of stages in the order of `names`.

    Parameters of one section that are alike stand together as `section.*`, if there are no others in it.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        readers = {stage for stage, entry in stages.items() if any(covers(p, name) for p in parameters_of(entry))}
        groups.setdefault(tuple(following(stages, readers)), []).append(name)
    for running, members in groups.items():
        yield _shortened(members, names), list(running)


def covers(named: str, parameter: str) -> bool:
    """Return whether a parameter is `named` in dvc.yaml, by itself or by a section around it."""
    return f"{parameter}.".startswith(f"{named}.")


def by_package(stages: Mapping[str, Mapping], packages: Sequence[str]) -> dict[str, tuple[list[str], bool]]:
    """Return for each package the stages that depend on it, and whether each of them does so on all of it.

    Args:
        stages: of dvc.yaml.
        packages: paths of folders.
    """
    found = {}
    for package in packages:
        deps = {name: paths(stage, ["deps"]) for name, stage in stages.items()}
        readers = [name for name in stages if any(PurePosixPath(dep).is_relative_to(package) for dep in deps[name])]
        found[package] = readers, all(package in deps[name] for name in readers)
    return found


def _shortened(members: list[str], names: Sequence[str]) -> list[str]:
    shortened: list[str] = []
    for section in dict.fromkeys(member.partition(".")[0] for member in members):
        inside = [name for name in names if covers(section, name)]
        own = [member for member in members if covers(section, member)]
        if own == inside and inside != [section]:
            shortened.append(f"{section}.*")
        elif len(own) > len(inside) / 2 and len(own) > 2:
            shortened.append(f"any other {section}.*")
        else:
            shortened += own
    return shortened


def page(stages: Mapping[str, Mapping], names: Sequence[str], packages: Sequence[str]) -> str:
    """Return the tables of the page: parameters, then packages of the library."""
    lines = ["## A parameter", "", "| changed | may run |", "| --- | --- |"]
    for members, running in by_parameter(stages, names):
        shown = ", ".join(f"any other `{m.removeprefix('any other ')}`" if " " in m else f"`{m}`" for m in members)
        lines.append(f"| {shown} | {_listed(running, stages)} |")
    lines += ["", "## The source", "", "| edited | reruns |", "| --- | --- |"]
    for package, (readers, whole) in by_package(stages, packages).items():
        text = _listed(readers, stages) if readers else "nothing"
        lines.append(f"| `{package}` | {text}{'' if whole else ', each for the modules that dvc.yaml names'} |")
    return "\n".join([*lines, ""])


def _listed(running: list[str], stages: Mapping) -> str:
    rest = [name for name in stages if name not in running]
    if not rest:
        return "all stages"
    if len(rest) <= 2 < len(running):
        return f"all stages but {' and '.join(f'`{name}`' for name in rest)}"
    return ", ".join(f"`{name}`" for name in running)
