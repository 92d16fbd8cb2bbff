"""Threads that are used again: each task at once, whatever the others do."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from lab.workers import Workers


def thread_of(workers: Workers) -> int:
    """Which thread did a task."""
    done: Future[int] = Future()
    workers.begin(lambda: done.set_result(threading.get_ident()))
    return done.result(10)


def test_tasks_that_last_hold_nobody_up() -> None:
    workers = Workers("test")
    together = threading.Barrier(21)

    def wait() -> None:
        together.wait(10)

    for _ in range(20):
        workers.begin(wait)

    # All of them, at once, or it would break.
    assert together.wait(10) in range(21)


def test_an_idle_thread_is_used_again() -> None:
    workers = Workers("test")
    threads = {thread_of(workers) for _ in range(50)}

    # One may still be on its way back when the next task comes.
    assert len(threads) < 10


def test_a_task_that_fails_takes_no_thread_with_it() -> None:
    workers = Workers("test")

    def fail() -> None:
        raise ZeroDivisionError

    workers.begin(fail)
    assert thread_of(workers)
