"""Git and DVC, run for what they answer. An exit status alone says nothing: the output is the answer."""

import os
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
    """Return what a program prints; raises ThawError with its last line where it fails."""
    result = subprocess.run(command, capture_output=True, check=False, env=environment(), **TEXT)
    if result.returncode:
        name = " ".join(command[command.index("dvc") :] if "dvc" in command else command)
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        raise ThawError(f"`{name}`: {lines[-1].removeprefix('ERROR: ').removeprefix('fatal: ')}")
    return result.stdout


def git(*arguments: str) -> str:
    """Return what Git prints; raises ThawError with its last line where it fails."""
    return answer(["git", *arguments])


def succeeds(*arguments: str) -> bool:
    """Return whether Git answers a question with yes, such as whether an object exists."""
    return subprocess.run(["git", *arguments], capture_output=True, check=False).returncode == 0
