"""What waits to be fetched by Receive: fragments in order, bounded in bytes, each answer kept until the next is asked.

One queue for the shell itself and one for each command, so that no command waits for another's output. It never blocks
who fetches beyond the long poll, and blocks who writes (`wait_for_room`) as long as the queue is full.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

# A writer waits while more than this many bytes are to be fetched.
FULL = 2 * 1024 * 1024
# How long a Receive waits for its envelope to fill once something is there: few objects an answer cost most of all.
GATHER = 0.03


@dataclass(frozen=True)
class Batch:
    """What one Receive takes. objects: the output objects completed in it. is_done: nothing will follow."""

    data: bytes
    objects: int
    is_done: bool


@dataclass(frozen=True)
class Fetched:
    """answer: the rendered answer; None when nothing came in time, or a later Receive took the place of this one."""

    answer: bytes | None
    batch: Batch | None = None


class OutputQueue:
    """Fragments on their way to the client. Thread-safe."""

    def __init__(self, *, gather: float = GATHER, full: int = FULL) -> None:
        self._condition = threading.Condition()
        self._gather = gather
        self._full = full
        self._fragments: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._objects = 0
        self._delivered = 0
        self._is_ended = False
        self._is_done_told = False
        self._is_released = False
        self._last: tuple[str, bytes] | None = None
        self._ticket = object()
        self._first_at = 0.0
        self._wanted = 0

    @property
    def delivered(self) -> int:
        """Output objects fetched so far."""
        return self._delivered

    def put(self, data: bytes, objects: int = 0) -> None:
        """Add whole fragments. Never waits; see wait_for_room()."""
        with self._condition:
            if objects and self._is_released:
                return
            if not self._fragments:
                self._first_at = time.monotonic()
                self._condition.notify_all()
            self._fragments.append((data, objects))
            self._bytes += len(data)
            self._objects += objects
            if self._wanted and self._bytes >= self._wanted:
                self._wanted = 0
                self._condition.notify_all()

    def wait_for_room(self) -> None:
        """Block while the queue is full; release() and end() wake."""
        if self._bytes < self._full:
            return
        with self._condition:
            while self._bytes >= self._full and not self._is_released and not self._is_ended:
                self._condition.wait()

    def release(self) -> None:
        """The command is being stopped: drop its objects, those to come as well, and let the writer go on."""
        with self._condition:
            self._is_released = True
            self._fragments.clear()
            self._bytes = self._objects = 0
            self._condition.notify_all()

    def end(self) -> None:
        """Nothing will follow."""
        with self._condition:
            self._is_ended = True
            self._condition.notify_all()

    def wait_for_end(self, timeout: float) -> bool:
        """Whether nothing more will be put, within so many seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: self._is_ended, timeout)

    def fetch(
        self,
        message_id: str,
        timeout: float,
        room: int,
        render: Callable[[Batch], bytes],
        *,
        max_objects: int = 0,
    ) -> Fetched:
        """Answer one Receive: at most `room` bytes of fragments (one at least) and `max_objects` objects (0: any).

        The same message_id gets the same answer again, so that a client whose connection broke loses nothing. A new
        Receive takes the place of one that still waits, which most likely nobody listens for any more.
        """
        with self._condition:
            if self._last and self._last[0] == message_id:
                return Fetched(self._last[1])
            ticket = self._ticket = object()
            self._condition.notify_all()
            if not self._wait(ticket, time.monotonic() + timeout, room, max_objects):
                return Fetched(None)
            batch = self._take(room, max_objects)
            answer = render(batch)
            self._last = (message_id, answer)
            return Fetched(answer, batch)

    def _wait(self, ticket: object, deadline: float, room: int, max_objects: int) -> bool:
        while True:
            if self._ticket is not ticket:
                return False
            now = time.monotonic()
            until = deadline
            if self._fragments:
                is_enough = self._bytes >= room or (max_objects and self._objects >= max_objects)
                until = self._first_at + self._gather
                if is_enough or self._is_ended or now >= until:
                    return True
                self._wanted = room
            elif self._is_ended and not self._is_done_told:
                return True
            elif now >= deadline:
                return False
            self._condition.wait(until - now)

    def _take(self, room: int, max_objects: int) -> Batch:
        parts: list[bytes] = []
        size = objects = 0
        while self._fragments:
            data, count = self._fragments[0]
            if parts and (size + len(data) > room or (max_objects and count and objects + count > max_objects)):
                break
            self._fragments.popleft()
            parts.append(data)
            size += len(data)
            objects += count
        was_full = self._bytes >= self._full
        self._bytes -= size
        self._objects -= objects
        self._delivered += objects
        if self._fragments:
            self._first_at = time.monotonic()
        is_done = self._is_ended and not self._fragments
        self._is_done_told = self._is_done_told or is_done
        if was_full:
            self._condition.notify_all()
        return Batch(b"".join(parts), objects, is_done)
