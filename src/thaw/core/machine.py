"""What of a machine this process may use."""

import contextlib
import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of all cores, in each period of so many


def usable_cores() -> int:
    """Return how many cores this process may use: a container, a batch system or `taskset` may give it a part."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        count = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # there is no such file, or it says `max`
        quota, period = map(int, QUOTA.read_text(encoding="utf-8").split())
        count = min(count, max(1, math.ceil(quota / period)))
    return count
