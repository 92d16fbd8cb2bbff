"""Threads that are used again: as many as are busy at once, and none is ever waited for.

Starting a thread for each of thousands of short commands costs more than most of them do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)

Task = Callable[[], None]


class Workers:
    """Daemons: they end with the process. Whoever is idle takes the next task; when nobody is, one more comes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0  # that no task was given to yet

    def begin(self, task: Task) -> None:
        """Have it done, at once, in some thread. Returns before it is."""
        with self._lock:
            is_taken = self._idle > 0
            self._idle -= is_taken
        if is_taken:
            self._tasks.put(task)
        else:
            threading.Thread(target=self._work, args=(task,), name=self._name, daemon=True).start()

    def _work(self, task: Task) -> None:
        while True:
            try:
                task()
            except Exception:
                logger.exception("a task of %s ended by an error", self._name)
            with self._lock:
                self._idle += 1
            task = self._tasks.get()
