"""The stream that a command writes to: its width, its colours, and its closing."""

import os
import shutil
import sys
from contextlib import suppress
from typing import TextIO

from pyexp.text import cut

#: The narrowest terminal that text is made for.
NARROWEST = 20

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Screen:
    """Where a command writes: lines that fit the terminal, in colours where it has them.

    Once the reader has closed the pipe, it ignores all lines, so that a command still ends with its own exit status.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.is_closed = False
        self.is_terminal = is_terminal(stream)
        self.has_colours = (
            self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("", "dumb")
        )

    @property
    def width(self) -> int | None:
        """Columns of the terminal as it is now; None without a terminal."""
        return max(shutil.get_terminal_size().columns, NARROWEST) if self.is_terminal else None

    @property
    def height(self) -> int | None:
        """Lines of the terminal as it is now; None without a terminal."""
        return shutil.get_terminal_size().lines if self.is_terminal else None

    def line(self, text: str = "", colour: str = "") -> None:
        """Write a line. On a terminal it is cut to the width."""
        for part in text.split("\n"):
            shown = cut(part, self.width)
            self.write(f"\x1b[{_CODES[colour]}m{shown}\x1b[0m\n" if colour and self.has_colours else f"{shown}\n")

    def write(self, text: str) -> None:
        """Write the text as it is. Escape characters that the stream cannot encode."""
        if self.is_closed:
            return
        try:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.stream.encoding or "ascii"
                self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            self._close()

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._close()

    def _close(self) -> None:
        self.is_closed = True
        with suppress(OSError, ValueError):  # keep Python from complaining again when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream leads to a terminal."""
    try:
        return stream.isatty()
    except (OSError, ValueError, AttributeError):
        return False


def own_screen() -> Screen:
    """The screen on stdout."""
    return Screen(sys.stdout or open(os.devnull, "w", encoding="utf-8"))


def say(text: str) -> None:
    """Print the text. Escape characters that stdout cannot encode, and ignore a reader that has closed the pipe."""
    screen = own_screen()
    screen.write(f"{text}\n")
    screen.flush()


def tell(line: str) -> None:
    """Write a line to stderr. Ignore a stderr that is closed."""
    with suppress(OSError, ValueError, AttributeError):  # stderr is closed: the exit status says it
        sys.stderr.write(f"{line}\n".encode("utf-8", "backslashreplace").decode())


def width_of(stream: TextIO) -> int | None:
    """Columns of the terminal that the stream leads to, as it is now; None if it leads elsewhere or does not say."""
    if not is_terminal(stream):
        return None
    try:
        columns = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return max(columns, NARROWEST) if columns else None


def size(number: int) -> str:
    """So many bytes, in their largest unit.

    >>> size(999), size(1000), size(12_345_678), size(3 * 10**12)
    ('999 B', '1.0 kB', '12 MB', '3.0 TB')
    """
    amount, unit = float(number), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{number} B" if unit == "B" else f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
