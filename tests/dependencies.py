"""What the source says of itself: the modules a file imports, the parameters a script reads, the paths it names."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"


# It checks the sections of all stages: they can stop a stage, and never change what it writes.
BY_NAME_ALONE = {SRC / "thaw" / "core" / "params.py"}


PATHS = {"backbone.weights", "head.extend", "task"}  # taken as a person typed them: no code of sections changes them


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path, lazy: bool = True) -> set[Path]:
    """The files of the library that a file imports itself; without `lazy`, only those that it imports when imported."""
    nodes = _without_types(parse(file)) if lazy else _when_imported(parse(file))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: `from .` is not followed here; write `from thaw…`"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif lazy and isinstance(node, ast.Constant) and file not in BY_NAME_ALONE and _names_module(node.value):
            names.add(node.value)  # imported by its name, as the kinds of heads are
    return {path for name in names if (path := SRC.joinpath(*name.split(".")).with_suffix(".py")).exists()}


def _names_module(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"thaw(\.\w+)+", value) is not None


def _without_types(node: ast.AST) -> Iterator[ast.AST]:
    """What runs: all but the blocks `if TYPE_CHECKING`, which only name types."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _without_types(child)


def _when_imported(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not types and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _when_imported(child)


def closure(file: Path, lazy: bool = True) -> set[Path]:
    """A file and all files of the repository that it imports, transitively."""
    seen, ahead = set(), [file]
    while ahead:
        if (file := ahead.pop()) not in seen:
            seen.add(file)
            ahead += imports(file, lazy)
    return seen


def source_deps(script: Path) -> list[str]:
    """What a stage depends on below src/, by the rule of the house.

    A package is named as a folder where the stage imports at least half of its modules, else module by module. What
    lies in a folder that is named is not named again. Of `thaw.parameters`, which checks params.yaml, these are the
    modules of the sections that the script reads.
    """
    modules = closure(script)
    for parameter in parameters_read(script) - PATHS:
        modules |= closure(SRC / "thaw" / "parameters" / f"{parameter.partition('.')[0]}.py")
    named = set()
    for module in modules:
        package = module.parent
        inside = {path for path in package.glob("*.py") if path.stem != "__init__"}
        whole = package not in (SRC, SRC / "thaw" / "parameters") and 2 * len(inside & modules) >= len(inside)
        named.add(package if whole else module)
    named = {path for path in named if not named.intersection(path.parents)}
    return sorted(path.relative_to(ROOT).as_posix() for path in named)


def parameters_read(file: Path) -> set[str]:
    """The dotted parameters that a script takes from `params.load(…)`.

    Two forms are understood: `params.load(…).section` is the whole section, and of `p = params.load(…)` every
    `p.section` or `p.section.key` that is not followed further. Any other use counts as reading everything, `*`.
    """
    nodes = list(ast.walk(parse(file)))
    assigned = [node for node in nodes if isinstance(node, ast.Assign) and _loads(node.value)]
    loaded = {ast.unparse(target) for node in assigned for target in node.targets}
    part_of_more = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)} | {
        id(a.value) for a in assigned
    }
    read = set()
    for node in nodes:
        if id(node) in part_of_more:
            continue
        names, base = [], node
        while isinstance(base, ast.Attribute):
            names.insert(0, base.attr)
            base = base.value
        if _loads(base) or (isinstance(base, ast.Name) and base.id in loaded and isinstance(base.ctx, ast.Load)):
            read.add(".".join(names) or "*")
    return read


def _loads(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load"


def strings(file: Path) -> list[str]:
    """The strings of a file's code, without its docstrings."""
    tree = parse(file)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [node.value for node in constants if id(node) not in docstrings]
