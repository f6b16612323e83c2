"""Threads compute ahead, up to a limit, and the results come in the order of the items."""

import subprocess
import sys
import threading

import pytest
from dependencies import SRC

from thaw.core import prefetch


def test_results_come_in_the_order_of_the_items_whichever_is_done_first():
    second_is_done = threading.Event()

    def slow_first(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(30)
        if number == 1:
            second_is_done.set()
        return number * number

    assert list(prefetch.map_in_order(slow_first, range(20), threads=2, ahead=4)) == [n * n for n in range(20)]


def test_items_are_taken_no_further_ahead_than_asked_for():
    taken = []
    results = prefetch.map_in_order(str, (taken.append(n) or n for n in range(100)), threads=2, ahead=3)
    assert next(results) == "0"
    assert taken == [0, 1, 2, 3]


def test_an_error_is_raised_where_its_result_is_due():
    results = prefetch.map_in_order(lambda n: 1 // n, [1, 0, 1], threads=1, ahead=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_pending_items_are_cancelled_if_the_consumer_stops_early():
    started, may_go_on = [], threading.Event()

    def work(number: int) -> int:
        started.append(number)
        if number:
            assert may_go_on.wait(30)
        return number

    results = prefetch.map_in_order(work, range(100), threads=1, ahead=50)
    assert next(results) == 0
    threading.Timer(0.1, may_go_on.set).start()
    results.close()
    assert len(started) <= 2


def test_a_background_function_gives_its_result_or_its_error():
    go = threading.Event()
    future = prefetch.run_in_background(lambda: go.wait(30) and "done")
    assert not future.done()
    go.set()
    assert future.result(30) == "done"
    with pytest.raises(ZeroDivisionError):
        prefetch.run_in_background(lambda: 1 / 0).result(30)


def test_a_process_that_ends_does_not_wait_for_a_background_function():
    work = "prefetch.run_in_background(lambda: time.sleep(100))"
    code = f"import time; from thaw.core import prefetch; {work}; raise SystemExit(3)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SRC, timeout=60).returncode == 3
