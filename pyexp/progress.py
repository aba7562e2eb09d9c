"""What a person sees on stderr while a run goes on: a line for each finished cell, and what failed, at the end."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from pyexp.results import Record


class Progress:
    """Plain lines on a stream. `quiet` leaves out all but warnings and failures."""

    def __init__(self, total: int, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.total = total
        self.ended = 0
        self.quiet = quiet
        self.stream = stream or own_stderr()

    def line(self, text: str) -> None:
        """Write a line, whatever has become of the stream: a run does not end because nobody listens."""
        with suppress(OSError, ValueError):
            self.stream.write(f"{text}\n")
            self.stream.flush()

    def began(self, path: str, counts: str) -> None:
        """The run begins: where its results are, and what is to be done."""
        if not self.quiet:
            self.line(f"{path}: {counts}")

    def cell(self, record: Record, log: str) -> None:
        """A cell has ended."""
        self.ended += 1
        place = f"[{self.ended}/{self.total}] {record.name or record.hash}"
        if record.failed:
            brief = f"{record.type}: {record.message}".partition("\n")[0]
            self.line(f"{place} failed after {record.seconds:.1f} s: {brief} (log: {log})")
        elif not self.quiet:
            self.line(f"{place} done in {record.seconds:.1f} s")

    def summary(self, failures: Sequence[tuple[Record, str]], hint: str) -> None:
        """The run is over: what failed, where the logs are, and how to go on."""
        if not failures:
            return
        self.line(f"{len(failures)} of {self.total} cells failed:")
        for record, log in failures:
            brief = f"{record.type}: {record.message}".partition("\n")[0]
            self.line(f"  {record.name or record.hash}: {brief}\n    log: {log}")
        self.line(hint)


def own_stderr() -> TextIO:
    """A stream on what stderr is now, which stays there while a cell in this process has descriptor 2 for its log."""
    try:
        if sys.stderr.fileno() == 2:
            return open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError, AttributeError):  # closed, none, or a notebook's
        pass
    return sys.stderr
