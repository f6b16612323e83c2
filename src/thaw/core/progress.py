"""How far long work is: a bar in a terminal; elsewhere (CI, nohup, a notebook) a plain line every half minute.

All of it goes to stderr and none into a file: times differ between runs.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from thaw.core.words import nouns, plural

if TYPE_CHECKING:
    from tqdm import tqdm

INTERVAL = 30.0  # seconds before the first line, and between two lines: quick work stays silent

T = TypeVar("T")


class Loop:
    """Counts the steps of a loop where there is no terminal, with the attributes of tqdm that the stages use."""

    def __init__(self, description: str, total: int | None, unit: str, initial: int):
        self.description, self.total, self.unit, self.n = description, total, unit, initial
        self._initial, self._start, self.ended = initial, time.monotonic(), False

    def update(self, steps: int = 1) -> None:
        self.n += steps

    def __enter__(self) -> "Loop":
        _loops[:] = [*_running(), self]
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True

    def __str__(self) -> str:
        if self.total == 0:  # as in the epoch that only measures the start
            return self.description
        rate = (self.n - self._initial) / max(time.monotonic() - self._start, 1e-9)
        known = self.total is not None
        text = f"{self.description}: {_amount(self.n, self.unit, self.total)}"
        if rate and not (known and self.n >= self.total):
            text += f", {_rate(rate, self.unit)}"
            text += f", {duration((self.total - self.n) / rate)} left" if known else ""
        return text


_loops: list[Loop] = []  # those that run, the outermost first; a last one that has ended stays until the next begins


def _running() -> list[Loop]:
    return [loop for loop in _loops if not loop.ended]


def bar(
    description: str, total: int | None = None, unit: str = "image", *, initial: int = 0, leave: bool = True
) -> "tqdm | Loop":
    """Return the progress of a loop: a context with `update(steps)`.

    Args:
        description: what the loop does, in a word or two.
        total: the number of steps; None: not known. It may be set later.
        unit: of a step; `B` counts bytes.
        initial: steps that were done before.
        leave: whether a bar stays in the terminal after the loop.

    Returns:
        A bar of tqdm where stderr is a terminal, else a Loop, of which `lines` prints.
    """
    if not sys.stderr.isatty():
        return Loop(description, total, unit, initial)
    from tqdm import tqdm

    return tqdm(desc=description, total=total, unit=unit, unit_scale=unit == "B", initial=initial, leave=leave)


def track(items: Iterable[T], description: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, each of which is a step of a `bar` that does not stay; `total` is at least their number."""
    with bar(description, total, unit, leave=False) as progress:
        for item in items:
            yield item
            progress.update()


@contextlib.contextmanager
def lines(name: str, interval: float | None = None) -> Iterator[None]:
    """Until the block ends, print every INTERVAL (or `interval`) seconds how far the work that is called `name` is.

    A line says where the innermost loop is, also while it waits for one long step. It is printed only where stderr is
    no terminal.
    """
    if sys.stderr.isatty():
        yield
        return
    start, ended = time.monotonic(), threading.Event()

    def print_lines() -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
            while not ended.wait(INTERVAL if interval is None else interval):
                loops = _running() or _loops
                done = str(loops[-1]) if loops else f"running for {duration(time.monotonic() - start)}"
                print(f"{name}: {done}", file=sys.stderr, flush=True)

    threading.Thread(target=print_lines, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def duration(seconds: float) -> str:
    """Return a time as text, such as `40 s`, `2.5 min`, `35 min` or `2.5 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _amount(done: int, unit: str, total: int | None) -> str:
    if unit == "B":
        return f"{done / 1e6:,.0f} MB" if total is None else f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
    return plural(done, unit) if total is None else f"{done:,} of {plural(total, unit)}"


def _rate(rate: float, unit: str) -> str:
    if unit == "B":
        return f"{rate / 1e6:,.1f} MB/s"
    return f"{rate:,.1f} {nouns(unit)}/s" if rate < 10 else f"{rate:,.0f} {nouns(unit)}/s"
