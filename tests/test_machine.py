"""What of a machine this process may use."""

import os

import pytest

from thaw.core import machine


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("6400000 100000", 8),
        ("max 100000", 8),
        (None, 8),
    ],
)
def test_a_container_has_the_cores_of_its_quota(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "cpu.max")
    if quota:
        machine.QUOTA.write_text(f"{quota}\n")
    assert machine.usable_cores() == cores


def test_where_no_system_says_it_all_cores_count(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "none")
    assert machine.usable_cores() == 12
