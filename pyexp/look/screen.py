"""Text for a terminal of some width, or for none: columns that fit, sizes, times, colours, and the stream itself.

`None` as a width stands for no terminal: there nothing is cut, as programs may read it.
"""

import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TextIO

#: The narrowest terminal that text is made for.
NARROWEST = 20

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Screen:
    """Where a command writes: lines that fit the terminal, in colours where it has them.

    Once nobody reads any more, it takes lines and writes none: a command's exit status is right all the same.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self.stream = stream
        self.is_closed = False
        self.is_terminal = is_terminal(stream)
        self.has_colours = self.is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") not in ("", "dumb")

    @property
    def width(self) -> int | None:
        """Columns of the terminal as it is now; None if this is none."""
        return max(shutil.get_terminal_size().columns, NARROWEST) if self.is_terminal else None

    @property
    def height(self) -> int | None:
        """Lines of the terminal as it is now; None if this is none."""
        return shutil.get_terminal_size().lines if self.is_terminal else None

    def line(self, text: str = "", colour: str = "") -> None:
        """Write a line. On a terminal it is cut to the width."""
        width = self.width
        for part in text.split("\n"):
            shown = part if width is None else cut(part, width)
            self.raw(f"\x1b[{_CODES[colour]}m{shown}\x1b[0m\n" if colour and self.has_colours else f"{shown}\n")

    def raw(self, text: str) -> None:
        """Write the text as it is; what the stream cannot spell is spelled out."""
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
        """Have all be written that was given so far."""
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._close()

    def _close(self) -> None:
        self.is_closed = True
        with suppress(OSError, ValueError):  # else Python would complain once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream leads to a terminal."""
    try:
        return stream.isatty()
    except (OSError, ValueError, AttributeError):
        return False


def own_screen() -> Screen:
    """The screen on stdout."""
    return Screen(sys.stdout or open(os.devnull, "w", encoding="utf-8"), os.environ)


def width_of(stream: TextIO) -> int | None:
    """Columns of the terminal that the stream leads to, as it is now; None if there is none, or if nobody knows."""
    if not is_terminal(stream):
        return None
    try:
        columns = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return max(columns, NARROWEST) if columns else None


def printable(text: str) -> str:
    """The text with control characters escaped."""
    return text if text.isprintable() else repr(text)[1:-1]


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes.

    >>> columns_of("abc"), columns_of("数据"), columns_of("e\\u0301")
    (3, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """The text in at most so many columns, with `…` at the end where it was longer.

    >>> cut("abcdef", 4), cut("abcd", 4), cut("数据数据", 4)
    ('abc…', 'abcd', '数…')
    """
    if columns_of(text) <= width:
        return text
    kept, left = "", width - 1
    for char in text:
        left -= _columns(char)
        if left < 0:
            break
        kept += char
    return f"{kept}…" if width > 0 else ""


def padded(text: str, width: int, *, right: bool = False) -> str:
    """The text filled up with blanks to so many columns."""
    blanks = " " * max(width - columns_of(text), 0)
    return blanks + text if right else text + blanks


class Column(NamedTuple):
    """A column of a table: its head, its cells, and how much it matters: the least is left out first."""

    head: str
    cells: Sequence[str]
    rank: int = 0
    right: bool = False


#: What the first column of a table keeps at least, before other columns are left out.
LEAST = 21


def table(columns: Sequence[Column], width: int | None) -> tuple[list[str], list[str]]:
    """The lines of a table that is at most so wide, head first, and the heads of the columns that were left out.

    The first column always stays, and is cut if it has to be; of the others, those of the lowest rank go first, and of
    those the last.
    """
    kept = list(columns)
    widths = {id(each): max(map(columns_of, (each.head, *each.cells))) for each in kept}
    first = kept[0]

    def total() -> int:
        rest = sum(widths[id(each)] + 2 for each in kept[1:])
        return rest + min(widths[id(first)], max(LEAST, columns_of(first.head)))

    left_out: list[str] = []
    while width is not None and len(kept) > 1 and total() > width:
        least = min(kept[1:], key=lambda each: (each.rank, -columns.index(each)))
        kept.remove(least)
        left_out.append(least.head)
    if width is not None:
        widths[id(first)] = min(widths[id(first)], width - sum(widths[id(each)] + 2 for each in kept[1:]))
    rows = zip(*([each.head, *each.cells] for each in kept), strict=True)
    lines = [
        "  ".join(
            padded(cut(cell, widths[id(each)]), widths[id(each)], right=each.right)
            for each, cell in zip(kept, row, strict=True)
        ).rstrip()
        for row in rows
    ]
    return lines, [each.head for each in columns if each.head in left_out]


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
