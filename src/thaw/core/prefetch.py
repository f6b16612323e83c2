"""Threads that compute results before they are needed."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[Result]:
    """Yield the result of `function` for each item, in the order of the items.

    If the consumer stops early, pending items are cancelled. An exception of `function` is raised where its result
    is due.

    Args:
        function: is called in the threads.
        items: is read in the caller's thread, as results are consumed.
        threads: how many run at the same time.
        ahead: how many items are submitted before the result that is due.
    """
    with ThreadPoolExecutor(threads) as pool:
        pending = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def run_in_background(function: Callable[[], Result]) -> Future[Result]:
    """Start `function` in a thread; a process that ends earlier does not wait for it."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
