"""A progress line for commands that go through a known number of things."""

import sys
import threading
import time
from typing import TextIO

from jaxseg.writer import format_seconds

_SECONDS = (0.1, 10.0)  # between lines, on a terminal and in a file


class Bar:
    """Shows how many of `total` things are done, how fast, and the time left; any thread may add.

    On a terminal it rewrites one line; into a file it writes a line now and then.
    """

    def __init__(self, title: str, total: int, stream: TextIO | None = None):
        self._title, self._total = title, total
        self._done = self._start = 0
        self._stream = sys.stderr if stream is None else stream
        self._began = self._shown = time.perf_counter()
        self._lock = threading.Lock()
        self._is_terminal = self._stream.isatty()

    def start(self, done: int) -> None:
        """Says that `done` things were done before; they do not count in the rate."""
        self._done = self._start = done
        self._began = self._shown = time.perf_counter()

    def add(self, count: int = 1) -> None:
        """Counts `count` more things as done."""
        with self._lock:
            self._done += count
            now = time.perf_counter()
            if now - self._shown > _SECONDS[0 if self._is_terminal else 1]:
                self._shown = now
                self._show(now)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error) -> None:
        with self._lock:
            self._show(time.perf_counter())
            if self._is_terminal:
                self._stream.write("\n")

    def _show(self, now: float) -> None:
        rate = (self._done - self._start) / max(now - self._began, 1e-9)
        left = (self._total - self._done) / rate if rate else float("inf")
        shown = f"{rate:.0f}" if rate >= 9.5 else f"{rate:.2g}"
        line = (
            f"{self._title}: {self._done}/{self._total}  {shown} images/s  "
            f"{format_seconds(left)} left"
        )
        # "\x1b[K" clears what a longer line before this one left behind.
        self._stream.write(f"\r{line}\x1b[K" if self._is_terminal else line + "\n")
        self._stream.flush()
