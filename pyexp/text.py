"""How values and tables look: as text in columns that fit a terminal, and as the HTML that a notebook shows.

`None` as a width or a height stands for no terminal: there nothing is cut, as programs may read it.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from reprlib import Repr
from typing import NamedTuple


def printable(text: str) -> str:
    """The text with control characters escaped."""
    return text if text.isprintable() else repr(text)[1:-1]


def display_width(text: str) -> int:
    """How many columns of a terminal the text takes.

    >>> display_width("abc"), display_width("数据"), display_width("e\\u0301")
    (3, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int | None) -> str:
    """The text in at most so many columns, with `…` at the end where it was longer.

    >>> cut("abcdef", 4), cut("abcd", 4), cut("数据数据", 4)
    ('abc…', 'abcd', '数…')
    """
    if width is None or display_width(text) <= width:
        return text
    kept = sum(taken < width for taken in accumulate(map(_columns, text)))
    return f"{text[:kept]}…" if width > 0 else ""


def padded(text: str, width: int, *, right: bool = False) -> str:
    """The text filled up with blanks to so many columns."""
    blanks = " " * (width - display_width(text))
    return blanks + text if right else text + blanks


#: A terminal shows at least so many rows, however low it is.
LEAST_ROWS = 12


def ends(size: int, height: int | None) -> tuple[range, range]:
    """The positions of the first and the last rows of a table that a terminal shows; all are first if they fit.

    >>> ends(12, 24), ends(500, 24)
    ((range(0, 12), range(12, 12)), (range(0, 11), range(495, 500)))
    """
    most = size if height is None else max(height - 8, LEAST_ROWS)
    last = 0 if size <= most else most // 3
    return range(min(size, most) - last), range(size - last, size)


def in_words(counts: Mapping[str, int]) -> str:
    """How many there are of each kind.

    >>> in_words({"done": 3, "failed": 0, "new": 1})
    '3 done, 1 new'
    """
    return ", ".join(f"{number} {word}" for word, number in counts.items() if number)


def more(left: Mapping[str, int], rest: str, width: int | None) -> list[str]:
    """A line on what is folded away, if anything is: how much of each kind if that fits, and what shows it.

    >>> more({"done": 5, "new": 40}, "-v shows all", 80), more({"done": 5, "new": 40}, "-v shows all", 30)
    (['… 45 more (5 done, 40 new); -v shows all'], ['… 45 more; -v shows all'])
    """
    number = sum(left.values())
    whole = f"… {number} more ({in_words(left)}); {rest}"
    fits = width is None or display_width(whole) <= width
    return [whole if fits else f"… {number} more; {rest}"] if number else []


class Column(NamedTuple):
    """A column of a table: its head, its cells, and how much it matters: the least is left out first."""

    head: str
    cells: Sequence[str]
    rank: int = 0
    right: bool = False


#: What the first column of a table keeps at least, before other columns are left out.
LEAST = 21


def aligned(
    columns: Sequence[Column], width: int | None, instead: Mapping[int, str] | None = None
) -> tuple[list[str], list[str]]:
    """The lines of a table that is at most so wide, head first, and the heads of the columns that were left out.

    The first column always stays, and is cut if it has to be; of the others, those of the lowest rank go first, and of
    those the last. `instead` has texts to show in place of all cells of a row but the first.
    """
    texts = instead or {}
    widths = [max(map(display_width, (each.head, *each.cells))) for each in columns]
    kept = dict.fromkeys(range(1, len(columns)))
    if width is not None:
        used = sum(widths[i] + 2 for i in kept) + min(widths[0], max(LEAST, display_width(columns[0].head)))
        for i in sorted(kept, key=lambda i: (columns[i].rank, -i)):
            if used <= width:
                break
            used -= widths[i] + 2
            del kept[i]
        widths[0] = min(widths[0], width - sum(widths[i] + 2 for i in kept))

    def shown(i: int, cell: str) -> str:
        return padded(cut(cell, widths[i]), widths[i], right=columns[i].right)

    lines = ["  ".join(shown(i, columns[i].head) for i in (0, *kept)).rstrip()]
    for row, head in enumerate(columns[0].cells):
        cells = [texts[row]] if row in texts else [shown(i, columns[i].cells[row]) for i in kept]
        lines.append(cut("  ".join([shown(0, head), *cells]).rstrip(), width))
    return lines, [each.head for i, each in enumerate(columns) if i and i not in kept]


#: Rows of a table in a notebook that are shown at each of its ends, where it has more than both together.
MOST = 10

_BRIEF = Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 80
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxset = _BRIEF.maxfrozenset = _BRIEF.maxdict = 8


def html_ends(size: int, most: int = MOST) -> list[int]:
    """The positions of the first and last `most` items; all positions if that covers them.

    >>> html_ends(3, 1), html_ends(2, 1)
    ([0, 2], [0, 1])
    """
    return list(range(size)) if size <= 2 * most else [*range(most), *range(size - most, size)]


def short_repr(value: object) -> str:
    """A short repr of a value, whatever its own is."""
    try:
        return _BRIEF.repr(value)
    except ValueError:  # Python does not spell such an int in decimal
        return f"<{type(value).__name__}>"


def in_a_line(values: Iterable[object], size: int) -> str:
    """The first of so many values in a line.

    >>> in_a_line([1, "a"], 2), in_a_line(range(3), 5)
    ("1, 'a'", '0, 1, 2, … (5 in all)')
    """
    shown = [short_repr(value) for value in values]
    return ", ".join(shown if len(shown) == size else [*shown, f"… ({size} in all)"])


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], size: int, caption: str = "") -> str:
    """A table of texts with the rows at the positions `html_ends(size)`, and a line where others are left out.

    No text can be taken for markup.
    """
    from html import escape  # only a notebook pays for it

    def row(tag: str, texts: Iterable[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in texts)}</tr>"

    lines = [row("td", each) for each in rows]
    if len(rows) < size:
        lines.insert(len(rows) // 2, f"<tr><td colspan='{len(head)}'>… {size - len(rows)} more</td></tr>")
    told = f"<p>{escape(caption)}</p>" if caption else ""
    body = f"<thead>{row('th', head)}</thead><tbody>{''.join(lines)}</tbody>"
    return f"<div style='overflow-x: auto'>{told}<table>{body}</table></div>"
