"""The progress of a run on stderr: a live display on a terminal, a line for each cell elsewhere.

stdout is for the report. A closed stderr does not stop a run.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

from pyexp.results import Record, cells_in_words, clipped, place

#: Failures that the summary at the end of a run repeats.
MOST_FAILURES = 20
#: Running cells that the live display shows by name.
MOST_RUNNING = 8
#: Seconds between two frames of the live display.
FRAME = 0.1


class Progress:
    """Plain lines on a stream, one as each cell ends. `quiet` writes only failures and warnings."""

    def __init__(self, total: int, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self.quiet = quiet
        self.waited = False
        self.stream = stream or own_stderr()
        self._here = os.path.join(_working_directory(), "")
        self._began = time.monotonic()

    @property
    def ended(self) -> int:
        """The number of cells that have ended."""
        return self.done + self.failed

    def line(self, text: str) -> None:
        """Write a line. Ignore a stream that is closed."""
        with suppress(OSError, ValueError):
            self.stream.write(f"{text}\n")
            self.stream.flush()

    def note(self, text: str) -> None:
        """Write a line, unless `quiet`."""
        if not self.quiet:
            self.line(text)

    def began(self, path: str, counts: str) -> None:
        """Say where the results are, and the counts of the plan."""
        self.note(f"{self._near(path)}: {counts}")

    def started(self, folder: str, name: str) -> None:
        """A cell starts. Its folder distinguishes it from others of the same name."""

    def tick(self) -> None:
        """Time has passed."""

    def waiting(self, number: int) -> None:
        """All cells that are left are claimed by other processes."""
        if not (self.waited or self.quiet):
            self.line(f"waiting for {cells_in_words(number)} that other processes have claimed")
        self.waited = True

    def cell(self, folder: str, record: Record, log: str) -> None:
        """A cell has ended. `log` is the path of its log, `""` if it has none."""
        name = printable(record.name or record.hash)
        if record.failed:
            self.failed += 1
            self._failure(f"[{self.ended}/{self.total}] {name} failed after {span(record.seconds)}", record, log)
            return
        self.done += 1
        if not self.quiet:
            self._succeeded(f"[{self.ended}/{self.total}] {name} done in {span(record.seconds)}")

    def _succeeded(self, text: str) -> None:
        self.line(text)

    def close(self) -> None:
        """The run has ended: restore the terminal."""
        if self.stream is not sys.stderr:
            with suppress(OSError, ValueError):
                self.stream.close()

    def summary(self, failures: Sequence[tuple[Record, str]], hint: str) -> None:
        """Write the counts, the failures, and a hint how to continue."""
        if self.total and not self.quiet:
            counts = ", ".join(f"{n} {word}" for n, word in ((self.done, "done"), (self.failed, "failed")) if n)
            self.line(f"ran {cells_in_words(self.ended)} in {span(time.monotonic() - self._began)}: {counts or 'none'}")
        if not failures:
            return
        self.line(f"{len(failures)} of {cells_in_words(self.total)} failed:")
        for record, log in failures[:MOST_FAILURES]:
            self._failure(f"  {printable(record.name or record.hash)}", record, log)
        if len(failures) > MOST_FAILURES:
            self.line(f"  … and {len(failures) - MOST_FAILURES} more")
        self.line(hint)

    def _failure(self, what: str, record: Record, log: str) -> None:
        self.line(f"{what}: {reason(record)}" + (f"\n    log: {self._near(log)}" if log else ""))

    def _near(self, path: str) -> str:
        """The path relative to the working directory, if it is below it."""
        return path.removeprefix(self._here)


class Live(Progress):
    """The live display of rich: a bar, counts by status, the rate, and the running cells with their times.

    The run's own loop draws it, not a thread: a cell may be a fork of this process.
    """

    def __init__(self, total: int, *, stream: TextIO | None = None) -> None:
        super().__init__(total, stream=stream)
        self._running: dict[str, tuple[str, float]] = {}
        self._drawn = 0.0
        self._display: Any = None

    def line(self, text: str) -> None:
        if self._display is None:
            super().line(text)
            return
        with suppress(OSError, ValueError):
            self._display.update(self._frame(time.monotonic()))  # the display is drawn again below the line
            self._display.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, folder: str, name: str) -> None:
        self._running[folder] = (name or folder, time.monotonic())
        if self._display is None:
            self._open()
        self.tick()

    def _open(self) -> None:
        from rich.console import Console  # 0.1 s to import, while the first cell is being started
        from rich.live import Live as Display

        self._began = time.monotonic()
        console = Console(file=self.stream)
        with suppress(OSError, ValueError):
            self._display = Display(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._display.start()

    def tick(self) -> None:
        now = time.monotonic()
        if self._display is not None and now - self._drawn >= FRAME:
            self._drawn = now
            with suppress(OSError, ValueError):
                self._display.update(self._frame(now), refresh=True)

    def cell(self, folder: str, record: Record, log: str) -> None:
        self._running.pop(folder, None)
        super().cell(folder, record, log)
        self.tick()

    def _succeeded(self, text: str) -> None:
        """Write nothing: the counts show it."""

    def close(self) -> None:
        if self._display is not None:
            with suppress(OSError, ValueError):
                self._display.stop()
            self._display = None

    def summary(self, failures: Sequence[tuple[Record, str]], hint: str) -> None:
        self.close()
        super().summary(failures, hint)

    def _frame(self, now: float) -> Any:
        """The present frame of the display."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=self.total, completed=self.ended, width=30), Text(self._counts(now)))
        shown = list(self._running.values())[:MOST_RUNNING]
        rows = [
            Text(f"  {span(now - since):>8}  {printable(name)}", style="dim", no_wrap=True, overflow="ellipsis")
            for name, since in shown
        ]
        if len(self._running) > len(shown):
            rows.append(Text(f"            … and {len(self._running) - len(shown)} more", style="dim"))
        return Group(bar, *rows)

    def _counts(self, now: float) -> str:
        left = self.total - self.ended - len(self._running)
        states = ((self.done, "done"), (self.failed, "failed"), (len(self._running), "running"), (left, "left"))
        counts = ", ".join(f"{number} {word}" for number, word in states if number)
        return f"{self.ended}/{self.total}  {counts}{pace(self.ended, self.total, now - self._began)}"


def pace(ended: int, total: int, seconds: float) -> str:
    """The rate at which cells end, and the time left at this rate; `""` before the first has ended.

    >>> pace(5, 20, 10.0)
    '  0.5 cells/s, 0:30 to go'
    """
    if not ended or seconds <= 0:
        return ""
    rate = ended / seconds
    shown = f"{rate:.2g} cells/s" if rate >= 0.1 else f"{rate * 3600:.2g} cells/h"
    return f"  {shown}, {span((total - ended) / rate)} to go"


def span(seconds: float) -> str:
    """A time span as people write it.

    >>> span(2.345), span(75), span(3675), span(90000)
    ('2.3 s', '1:15', '1:01:15', '1 d 1:00:00')
    """
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days or hours:
        return f"{f'{days} d ' if days else ''}{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"


def reason(record: Record) -> str:
    """Why a cell failed and where, in one line."""
    why = clipped(f"{record.type}: {record.message}" if record.message else record.type)
    where = place(record.traceback)
    return printable(f"{why} ({where})" if where else why)


def printable(text: str) -> str:
    """The text with control characters escaped."""
    return text if text.isprintable() else repr(text)[1:-1]


def progress(total: int, *, quiet: bool, terminal_is_free: bool, environ: Mapping[str, str]) -> Progress:
    """The live display if stderr is a terminal that can show it and that cells do not write to; plain lines otherwise.

    `CI` or `TERM=dumb` give plain lines. rich respects `NO_COLOR`.
    """
    stream = own_stderr()
    plain = (
        quiet or not total or not terminal_is_free or not _is_terminal(stream)
        or environ.get("TERM", "") in ("", "dumb", "unknown") or environ.get("CI", "").lower() not in ("", "0", "false")
    )  # fmt: skip
    return Progress(total, quiet=quiet, stream=stream) if plain else Live(total, stream=stream)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError, AttributeError):
        return False


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def own_stderr() -> TextIO:
    """A stream to the present stderr. It still works while a cell in this process has descriptor 2 for its log."""
    with suppress(OSError, ValueError, AttributeError):  # closed, none, or a notebook's
        if sys.stderr.fileno() == 2:
            return open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    return sys.stderr or open(os.devnull, "w", encoding="utf-8")
