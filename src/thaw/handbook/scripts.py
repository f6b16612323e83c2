"""The page of all scripts: what each does and takes, from its own parser, as `--help` has it.

The text of `--help` differs between versions of Python, so it is not taken as it is. argparse has no public way to list
the options of a parser: this module reads its private attributes.
"""

import argparse
import ast
import contextlib
import io
import re
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from unittest import mock

WITHOUT_TENSORFLOW = "thaw.engines.keras_without_tensorflow"  # would hold for all that this process does later


class _Parsed(BaseException):  # no script catches it
    """A script has made its parser."""

    def __init__(self, parser: argparse.ArgumentParser):
        super().__init__()
        self.parser = parser


def parser_of(script: Path) -> argparse.ArgumentParser | None:
    """Return the parser of a script, or None if it takes no arguments. The script runs up to its parser."""
    if "argparse" not in imported(script):
        return None

    def parse_args(parser, *args, **kwargs):
        raise _Parsed(parser)

    is_imported = WITHOUT_TENSORFLOW in sys.modules
    sys.modules.setdefault(WITHOUT_TENSORFLOW, ModuleType(WITHOUT_TENSORFLOW))
    patched = mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args)
    with patched, mock.patch.object(sys, "argv", [script.as_posix()]), contextlib.redirect_stderr(io.StringIO()):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except _Parsed as parsed:
            return parsed.parser
        finally:
            if not is_imported:
                del sys.modules[WITHOUT_TENSORFLOW]
    raise AssertionError(f"{script} imports argparse and parses no arguments")


def imported(script: Path) -> set[str]:
    """Return the names of the modules that a script imports with `import`."""
    nodes = ast.walk(ast.parse(script.read_text(encoding="utf-8")))
    return {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def docstring(script: Path) -> str:
    return ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""


def page(scripts: Sequence[Path], stages: Mapping[str, Mapping], makefile: str) -> str:
    """Return the page: targets of make, scripts that people run by hand, and those of the stages.

    Args:
        scripts: paths as people type them.
        stages: of dvc.yaml.
        makefile: text of the Makefile, where `## …` says what a target does.
    """
    by_hand = [script for script in scripts if script.stem not in stages]
    targets = re.findall(r"^([\w-]+):.*## (.+)$", makefile, re.MULTILINE)
    lines = ["## make", "", "| command | effect |", "| --- | --- |"]
    lines += [*(f"| `make {target}` | {effect} |" for target, effect in targets), "", "## By hand", ""]
    for script in by_hand:
        lines += describe(script)
    lines += ["## Stages", "", "`dvc repro` runs them, in this order. Each has the name of its script.", ""]
    for script in sorted((s for s in scripts if s.stem in stages), key=lambda s: [*stages].index(s.stem)):
        lines += describe(script)
    return "\n".join(lines).rstrip() + "\n"


def describe(script: Path) -> list[str]:
    """Return the lines of one script: its docstring, usage, options and what follows them."""
    lines = [f"### `{script.name}`", "", docstring(script), ""]
    parser = parser_of(script)
    if parser is None or len(parser._actions) == 1:
        return lines
    return lines + describe_parser(parser, f"python {script.as_posix()}")


def describe_parser(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """Return the lines of a parser: of each of its commands if it has some, else its usage and options."""
    lines = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                lines += [f"#### `{name}`", "", inner.description or texts.get(name, ""), ""]
                lines += describe_parser(inner, f"{command} {name}")
    if not lines:
        lines += ["```text", usage(parser, command), "```", ""]
        if rows := [row for action in parser._actions if (row := option(action, parser))]:
            lines += ["| option | effect |", "| --- | --- |", *rows, ""]
    if parser.epilog:
        lines += ["```text", parser.epilog.strip(), "```", ""]
    return lines


def usage(parser: argparse.ArgumentParser, command: str) -> str:
    """Return the usage in one line, the same for every version of Python."""
    parts = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = " ".join(value_of(action))
        text = f"{action.option_strings[-1]} {value}".strip() if action.option_strings else value
        is_needed = action.required and action.nargs not in ("?", "*")
        parts.append(text if is_needed else f"[{text}]")
    return " ".join([command, *parts])


def option(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Return the row of an option; empty for `--help`."""
    if isinstance(action, argparse._HelpAction):
        return ""
    value = " ".join(value_of(action))
    names = ", ".join(f"`{f'{name} {value}'.strip()}`" for name in action.option_strings or [""])
    help_text = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"| {names} | {' '.join(help_text.split()).replace('|', chr(92) + '|')} |"


def value_of(action: argparse.Action) -> Iterator[str]:
    """Yield what stands for the value of an option, as the usage has it."""
    if action.nargs == 0:
        return
    name = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    if action.nargs == "?" and action.option_strings:
        name = f"[{name}]"
    yield f"{name} …" if action.nargs in ("*", "+") else name
