"""What a person sees while a run works: bars on a terminal, sparse lines anywhere else, and the log between them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

Item = TypeVar("Item")

log = logging.getLogger(__name__)
console = Console(stderr=True)


def say(text: str, style: str | None = None) -> None:
    """Print a line to stderr as it is, above the bars."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class Progress:
    """Shows how far loops have come; they may be nested.

    Args:
        every: seconds between two lines where the output is not a terminal.
        tell: what is done with such a line; None: it goes into the log.

    Example:
        >>> sum(Progress().track(range(4), label="adding"))
        6
    """

    def __init__(self, every: float = 15.0, tell: Callable[[str], None] | None = None) -> None:
        self.every, self.tell = every, tell or log.info
        self._bars: Bars | None = None

    def track(self, iterable: Iterable[Item], total: int | None = None, label: str = "") -> Iterator[Item]:
        """Yield the items and show their count. `total` is needed where the items have no length."""
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        return self._bar(iterable, total, label) if console.is_terminal else self._lines(iterable, total, label)

    def _lines(self, iterable: Iterable[Item], total: int | None, label: str) -> Iterator[Item]:
        written = time.monotonic()
        for count, item in enumerate(iterable, 1):
            yield item
            if time.monotonic() - written > self.every:
                written = time.monotonic()
                self.tell(f"{label}: {count} of {total or '?'}")

    def _bar(self, iterable: Iterable[Item], total: int | None, label: str) -> Iterator[Item]:
        outermost = self._bars is None
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bars = self._bars = self._bars or Bars(*columns, console=console, transient=True)
        task = bars.add_task(label, total=total)
        try:
            if outermost:
                bars.start()
            for item in iterable:
                yield item
                bars.advance(task)
        finally:
            bars.remove_task(task)
            if outermost:
                bars.stop()
                self._bars = None


class FileHandler(logging.FileHandler):
    """Writes log records into a file; a disk that takes no more of them is told by what the run itself fails at."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Print where a record went wrong, unless the system refused it."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class ConsoleHandler(logging.Handler):
    """Prints log records above the bars; the traceback of a `ValueError` (bad input) goes to the log file only."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        is_input = record.exc_info and isinstance(record.exc_info[1], ValueError)
        text = record.getMessage() if is_input else self.format(record)
        style = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}.get(record.levelname)
        say(text, style)
