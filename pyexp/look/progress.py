"""The progress of a run on stderr: a live display on a terminal, a line for each cell elsewhere.

stdout is for the report. A closed stderr does not stop a run.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, TextIO

from pyexp.look.folding import failure_line, failure_lines
from pyexp.look.screen import is_terminal, width_of
from pyexp.results import Record, cells_in_words
from pyexp.text import in_words, printable

#: Failures that a run prints one by one. After that it counts them.
MOST_FAILURES = 10
#: Running cells that are shown by name.
MOST_RUNNING = 8
#: Seconds between two frames of the live display, and of the one in a notebook.
FRAME, NOTEBOOK_FRAME = 0.1, 0.5
#: Seconds between two lines on the running cells, without a live display.
HEARTBEAT = 60.0


class Progress:
    """Plain lines on a stream, one as each cell ends. `quiet` writes only failures and warnings.

    `names` has what to call the cells, by hash. `holders` returns the processes of running cells, by folder.
    """

    #: Whether a line is written for each cell that is done.
    tells_each = True

    def __init__(self, total: int, *, stream: TextIO, quiet: bool = False, verbose: bool = False) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self.quiet = quiet
        self.verbose = verbose
        self.waited = 0
        self.stream = stream
        self._is_own = stream is not sys.stderr  # now: another thread may replace that until the end
        self.width = width_of(self.stream)
        self.names: Mapping[str, str] = {}
        self.holders: Callable[[], Mapping[str, str]] = dict
        self.running: dict[str, tuple[str, float]] = {}
        self._here = ""
        with suppress(OSError):  # it was removed
            self._here = os.path.join(os.getcwd(), "")
        self._began = time.monotonic()
        self._beat = self._began

    @property
    def ended(self) -> int:
        """The number of cells that have ended."""
        return self.done + self.failed

    @property
    def left(self) -> int:
        """The number of cells that are not done: also those that failed, and those that run."""
        return self.total - self.done

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
        self.running[folder] = (printable(name or folder), time.monotonic())

    def tick(self) -> None:
        """Time has passed."""
        now = time.monotonic()
        if is_due(now, self._beat) and not self.quiet:
            self._beat = now
            self.line(heartbeat(self.ended, self.total, self.running, self.holders(), waiting=self.waited, now=now))

    def waiting(self, number: int) -> None:
        """All cells that are left are claimed by other processes."""
        if not (self.waited or self.quiet):
            self.line(f"waiting for {cells_in_words(number)} that other processes have claimed")
        self.waited = number

    def cell(self, folder: str, record: Record, log: str) -> None:
        """A cell has ended. `log` is the path of its log, `""` if it has none."""
        self.running.pop(folder, None)
        self.failed += record.failed
        self.done += not record.failed
        count = f"[{self.ended}/{self.total}]"
        name = printable(self.names.get(record.hash) or record.name or record.hash)
        is_told = self.verbose or (self.failed <= MOST_FAILURES if record.failed else self.tells_each)
        if is_told and (record.failed or not self.quiet):
            self.line(end_line(count, name, record, self.width))
        elif record.failed and is_counted(self.failed):
            self.line(f"{count} {self.failed} cells have failed; the end of the run groups them")

    def close(self) -> None:
        """The run has ended: restore the terminal."""
        if self._is_own:
            with suppress(OSError, ValueError):
                self.stream.close()

    def summary(self, failures: Sequence[tuple[Record, str]], hint: str = "") -> None:
        """Write the counts, the failures by type and place, and a hint how to continue."""
        if self.total and not self.quiet:
            counts = in_words({"done": self.done, "failed": self.failed}) or "none"
            self.line(f"ran {cells_in_words(self.ended)} in {span(time.monotonic() - self._began)}: {counts}")
        if not failures:
            return
        self.line(f"{len(failures)} of {cells_in_words(self.total)} failed:")
        logs = {record.hash: self._near(log) for record, log in failures if log}
        for line in failure_lines([record for record, _ in failures], logs, self.names):
            self.line(f"  {line}")
        if hint:
            self.line(hint)

    def _near(self, path: str) -> str:
        """The path relative to the working directory, if it is below it."""
        return path.removeprefix(self._here)


class Updating(Progress):
    """A display that is drawn again and again: a bar, counts by status, the rate, and the running cells."""

    tells_each = False
    frame = FRAME
    _display: Any = None

    def started(self, folder: str, name: str) -> None:
        super().started(folder, name)
        if self._display is None:
            self._began = time.monotonic()
            self._open()
        self.tick()

    def tick(self) -> None:
        now = time.monotonic()
        if self._display is not None and now - self._beat >= self.frame:
            self._beat = now
            self._draw(now)

    def cell(self, folder: str, record: Record, log: str) -> None:
        super().cell(folder, record, log)
        self.tick()

    def summary(self, failures: Sequence[tuple[Record, str]], hint: str = "") -> None:
        self.close()
        super().summary(failures, hint)

    def _open(self) -> None:
        raise NotImplementedError

    def _draw(self, now: float) -> None:
        raise NotImplementedError

    def _status(self, now: float, width: int) -> tuple[int, str]:
        """The columns of the bar, and the text beside it."""
        return status_line(
            self.done, self.failed, len(self.running), self.total, seconds=now - self._began, width=width
        )

    def _rows(self, now: float) -> list[str]:
        """A line for each running cell."""
        shown = list(self.running.values())[:MOST_RUNNING]
        rows = [f"  {span(now - since):>8}  {name}" for name, since in shown]
        rest = len(self.running) - len(shown)
        return [*rows, f"            … and {rest} more"] if rest else rows


class Live(Updating):
    """The display on a terminal, by rich.

    The run's own loop draws it, not a thread: a cell may be a fork of this process.
    """

    def line(self, text: str) -> None:
        if self._display is None:
            super().line(text)
            return
        with suppress(OSError, ValueError):
            self._display.update(self._picture(time.monotonic()))  # the display is drawn again below the line
            self._display.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _open(self) -> None:
        from rich.console import Console  # 0.1 s to import, while the first cell is being started
        from rich.live import Live as Display

        console = Console(file=self.stream)
        with suppress(OSError, ValueError):
            self._display = Display(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._display.start()

    def _draw(self, now: float) -> None:
        with suppress(OSError, ValueError):
            self._display.update(self._picture(now), refresh=True)

    def close(self) -> None:
        if self._display is not None:
            with suppress(OSError, ValueError):
                self._display.stop()
            self._display = None

    def _picture(self, now: float) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        self.width = self._display.console.width  # the terminal may have been resized
        columns, text = self._status(now, self.width)
        bar = Table.grid(padding=(0, 1))
        shown = Text(text, no_wrap=True, overflow="ellipsis")
        bar.add_row(*([ProgressBar(total=self.total, completed=self.ended, width=columns)] if columns else []), shown)
        rows = (Text(row, style="dim", no_wrap=True, overflow="ellipsis") for row in self._rows(now))
        return Group(bar, *rows)


class Notebook(Updating):
    """The display in a notebook: one output, which is replaced again and again."""

    frame = NOTEBOOK_FRAME
    #: Text has this many columns there, where nobody knows how wide it is.
    columns = 100

    def _open(self) -> None:
        display: Any = import_module("IPython.display").display
        self._display = display(self._picture(time.monotonic()), raw=True, display_id=True)

    def _draw(self, now: float) -> None:
        self._display.update(self._picture(now), raw=True)

    def close(self) -> None:
        if self._display is not None:
            self._draw(time.monotonic())
            self._display = None

    def _picture(self, now: float) -> dict[str, str]:
        from html import escape  # only a notebook pays for it

        _, text = self._status(now, self.columns)
        rows = "\n".join([text, *self._rows(now), NOTEBOOK_HINT])
        bar = f"<progress value='{self.ended}' max='{self.total}'></progress>"

        return {"text/plain": rows, "text/html": f"<div>{bar}<pre>{escape(rows)}</pre></div>"}


#: What the display in a notebook says below the cells.
NOTEBOOK_HINT = "what a cell prints is in log.txt in its folder, which is its result's out"


#: Columns of a bar: at most, and at least where there is one.
WIDEST_BAR, LEAST_BAR = 30, 10


def status_line(done: int, failed: int, running: int, total: int, *, seconds: float, width: int) -> tuple[int, str]:
    """The columns of the bar (0: none), and the counts and the pace beside it, for a terminal of this width.

    >>> status_line(12, 1, 4, 500, seconds=26.0, width=100)
    (26, '13/500  12 done, 488 left (1 failed, 4 running)  0.5 cells/s, 16:14 to go')
    >>> status_line(12, 1, 4, 500, seconds=26.0, width=40)
    (0, '13/500  1 failed, 488 left  16:14 to go')
    """
    ended, left = done + failed, total - done
    some = in_words({"failed": failed, "running": running})
    counts = in_words({"done": done, f"left ({some})" if some else "left": left})
    whole = f"{ended}/{total}  {counts}"
    brief = f"{ended}/{total}  {f'{failed} failed, ' if failed else ''}{left} left"
    rate = pace(ended, total, seconds) if ended < total else ""
    togo = f"  {rate.rpartition(', ')[2]}" if rate else ""
    for text in (whole + rate, whole + togo):
        if len(text) + 1 + LEAST_BAR <= width:
            return min(WIDEST_BAR, width - len(text) - 1), text
    return 0, next((text for text in (whole + togo, whole, brief + togo, brief) if len(text) <= width), brief)


def is_due(now: float, last: float) -> bool:
    """Whether it is time for another line on the running cells."""
    return now - last >= HEARTBEAT


def heartbeat(
    ended: int,
    total: int,
    running: Mapping[str, tuple[str, float]],
    holders: Mapping[str, str],
    *,
    waiting: int,
    now: float,
) -> str:
    """A line on the cells that run, by folder with their names and starts: for how long, and by which process.

    >>> heartbeat(3, 9, {"c-1": ("c", 10.0)}, {"c-1": "(process 7 on host)"}, waiting=0, now=135.0)
    '[3/9] running: c for 2:05 (process 7 on host)'
    """
    told = [
        f"{name} for {span(now - since)}{f' {holders[folder]}' if folder in holders else ''}"
        for folder, (name, since) in list(running.items())[:MOST_RUNNING]
    ]
    if len(running) > len(told):
        told.append(f"and {len(running) - len(told)} more")
    if not told:
        what = f"waiting for {cells_in_words(waiting)} that other processes have claimed" if waiting else "no cell runs"
        return f"[{ended}/{total}] {what}"
    return f"[{ended}/{total}] running: {', '.join(told)}"


def end_line(count: str, name: str, record: Record, width: int | None) -> str:
    """A line on a cell that has ended: after which time, and why it failed."""
    if record.failed:
        return failure_line(f"{count} {name} failed", f" after {span(record.seconds)}", record, width)
    return f"{count} {name} done in {span(record.seconds)}"


def is_counted(failed: int) -> bool:
    """Whether a line says how many have failed: whenever the number has doubled since the last line.

    >>> [number for number in range(11, 100) if is_counted(number)]
    [20, 40, 80]
    """
    times, rest = divmod(failed, MOST_FAILURES)
    return not rest and times > 1 and times & (times - 1) == 0


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


def progress(total: int, *, quiet: bool, verbose: bool, terminal_is_free: bool) -> Progress:
    """The live display if stderr is a terminal that can show it and that cells do not write to; plain lines otherwise.

    In a notebook it is one output. Elsewhere `CI` or `TERM=dumb` give plain lines. rich respects `NO_COLOR`.
    """
    stream = own_stderr()
    ipython = sys.modules.get("IPython")
    if total and not quiet and getattr(ipython and ipython.get_ipython(), "kernel", None) is not None:
        return Notebook(total, verbose=verbose, stream=stream)
    is_dumb = os.environ.get("TERM", "") in ("", "dumb", "unknown")
    is_dumb = is_dumb or os.environ.get("CI", "").lower() not in ("", "0", "false")
    if quiet or not total or is_dumb or not terminal_is_free or not is_terminal(stream):
        return Progress(total, quiet=quiet, verbose=verbose, stream=stream)
    return Live(total, verbose=verbose, stream=stream)


def own_stderr() -> TextIO:
    """A stream to the present stderr. It still works while a cell in this process has descriptor 2 for its log."""
    with suppress(OSError, ValueError, AttributeError):  # closed, none, or a notebook's
        if sys.stderr.fileno() == 2:
            return open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    return sys.stderr or open(os.devnull, "w", encoding="utf-8")
