"""Values as the HTML that a notebook shows: tables that fold, and no text that could be taken for markup."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from reprlib import Repr
from typing import Any

#: Rows of a table that are shown at each of its ends, where it has more than both together.
MOST = 10

_BRIEF = Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 80
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxset = _BRIEF.maxfrozenset = _BRIEF.maxdict = 8


def ends(size: int, most: int = MOST) -> list[int]:
    """The positions of the first and last `most` items; all positions if that covers them.

    >>> ends(3, 1), ends(2, 1)
    ([0, 2], [0, 1])
    """
    return list(range(size)) if size <= 2 * most else [*range(most), *range(size - most, size)]


def brief(value: Any) -> str:
    """A short repr of a value, whatever its own is."""
    try:
        return _BRIEF.repr(value)
    except ValueError:  # Python does not spell such an int in decimal
        return f"<{type(value).__name__}>"


def items(values: Iterable[Any], size: int) -> str:
    """The first of so many values in a line.

    >>> items([1, "a"], 2), items(range(3), 5)
    ("1, 'a'", '0, 1, 2, … (5 in all)')
    """
    shown = [brief(value) for value in values]
    return ", ".join(shown if len(shown) == size else [*shown, f"… ({size} in all)"])


def table(head: Sequence[str], rows: Sequence[Sequence[str]], size: int, caption: str = "") -> str:
    """A table of texts with the rows at the positions `ends(size)`, and a line where others are left out."""
    return "".join(_parts(head, rows, size, caption))


def _parts(head: Sequence[str], rows: Sequence[Sequence[str]], size: int, caption: str) -> Iterator[str]:
    yield "<div style='overflow-x: auto'>"
    yield f"<p>{escape(caption)}</p>" if caption else ""
    yield f"<table><thead>{_row('th', head)}</thead><tbody>"
    for number, row in enumerate(rows):
        if number == len(rows) - len(rows) // 2 and len(rows) < size:
            yield f"<tr><td colspan='{len(head)}'>… {size - len(rows)} more</td></tr>"
        yield _row("td", row)
    yield "</tbody></table></div>"


def _row(tag: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in texts)}</tr>"
