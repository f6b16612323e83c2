"""Write what a benchmark measured to `benchmarks/results`, from which the tables of the handbook are made.

`python src/handbook.py` (`make docs`) puts a file into the pages that name it: see `thaw.handbook.measured`.
"""

import datetime
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from thaw.core import kernels  # noqa: E402
from thaw.core.files import atomic_file  # noqa: E402
from thaw.support import facts  # noqa: E402

FOLDER = Path(__file__).parent / "results"
HEAD = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
CHANGED = ["git", "status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/*.py", "params.yaml"]
CHANGES = subprocess.run(CHANGED, cwd=ROOT, capture_output=True, text=True, check=True).stdout
COMMIT = HEAD.stdout.strip() + (" with changes" if CHANGES else "")  # that is measured: the code at the start
Column = str | tuple[str, str]  # a name, or a name and the format of its numbers
Value = str | float | Sequence[float] | None


def write(name: str, columns: Sequence[Column], rows: Sequence[Sequence[Value]], note: str = "") -> None:
    """Write a table of results: one file, replaced whole. It says which command, commit, day and machine.

    Args:
        name: of the file, without its suffix.
        columns: their names, with the formats of those that hold numbers.
        rows: A value for each column: a number, several numbers for one format, a text, or None.
        note: what a reader of the table needs to know besides.
    """
    results = {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(shlex.quote, sys.argv[1:])]),
        "commit": COMMIT,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        **({"note": note} if note else {}),
        "columns": described(columns),
    }
    text = json.dumps(results, ensure_ascii=False, indent=2).removesuffix("\n}")
    lines = ",\n".join(f"    {json.dumps(list(row), ensure_ascii=False)}" for row in rows)
    with atomic_file(FOLDER / f"{name}.json") as temporary:
        temporary.write_text(f'{text},\n  "rows": [\n{lines}\n  ]\n}}\n', encoding="utf-8")
    print(f"results: {name}.json is written; `make docs` renews the tables", flush=True)


def described(columns: Sequence[Column]) -> list[dict[str, str]]:
    """Return the columns as a file of results has them."""
    return [
        {"name": column} if isinstance(column, str) else dict(zip(("name", "format"), column, strict=True))
        for column in columns
    ]


def machine() -> str:
    """Return the machine in words: cores, processor, kernels, and how busy it was."""
    load = os.getloadavg()[0]
    busy = f", load {load:.0f}" if load > (os.cpu_count() or 1) + 1 else ""
    chosen = "AVX2 kernels" if kernels.CHOICE.baseline else "native kernels"
    return f"{os.cpu_count()} cores of {facts.processor()}, {chosen}{busy}"
