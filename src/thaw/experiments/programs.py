"""Git and DVC, run for what they answer. An exit status alone says nothing: the output is the answer."""

import contextlib
import json
import os
import signal
import subprocess
import sys

from thaw.core.errors import ThawError

# Names and messages may hold any character, whatever the terminal can show.
ENVIRONMENT = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
TEXT = {"encoding": "utf-8", "errors": "backslashreplace"}


def dvc(*arguments: str) -> list[str]:
    """Return a command of DVC, run by this Python."""
    return [sys.executable, "-m", "dvc", *arguments]


def environment() -> dict[str, str]:
    """Return the environment in which Python programs write UTF-8."""
    return os.environ | ENVIRONMENT


def answer(command: list[str]) -> str:
    """Return what a program prints; raises ThawError with its last line where it fails, is killed or is not there."""
    try:
        result = subprocess.run(command, capture_output=True, check=False, env=environment(), **TEXT)
    except FileNotFoundError:
        raise ThawError(f"{command[0]} is not installed, or not in PATH") from None
    if result.returncode:
        lines = result.stderr.strip().splitlines() if result.returncode > 0 else []
        why = lines[-1].removeprefix("ERROR: ").removeprefix("fatal: ") if lines else ended(result.returncode)
        raise ThawError(f"{shown(command)}: {why}")
    return result.stdout


def json_answer(command: list[str]) -> object:
    """Return the JSON that a program prints; raises ThawError as `answer` does, and where it prints anything else."""
    output = answer(command)
    try:
        return json.loads(output)
    except ValueError:
        first = output.strip().partition("\n")[0]
        raise ThawError(f"{shown(command)} ended without an error, but its answer is no JSON: {first!r}") from None


def shown(command: list[str]) -> str:
    """Return a command as a person would type it."""
    return f"`{' '.join(command[command.index('dvc') :] if 'dvc' in command else command)}`"


def ended(status: int) -> str:
    """Say how a program ended that did not say it itself; a negative status is the number of a signal."""
    if status >= 0:
        return f"ended with exit status {status}"
    with contextlib.suppress(ValueError):
        return f"was killed ({signal.Signals(-status).name}), as where memory runs out"
    return f"was killed (signal {-status})"


def git(*arguments: str) -> str:
    """Return what Git prints; raises ThawError with its last line where it fails."""
    return answer(["git", *arguments])


def succeeds(*arguments: str) -> bool:
    """Return whether Git answers a question with yes, such as whether an object exists."""
    return subprocess.run(["git", *arguments], capture_output=True, check=False).returncode == 0
