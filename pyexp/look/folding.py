"""Results in few lines: the table that folds to the terminal, and the failures by type and place."""

from collections import Counter
from collections.abc import Sequence

from pyexp.look.progress import printable
from pyexp.look.screen import Column, columns_of, cut, own_screen, padded, table
from pyexp.results import Record, place, records_of
from pyexp.tables import Results, brief_error, counts, shown


def groups(records: Sequence[Record]) -> list[tuple[Record, int]]:
    """The failures by type and place, the most frequent first: the first record of each kind, and how many there are.

    Where no place is known, by type and message.
    """
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.status == "failed":
            found.setdefault((record.type, place(record.traceback) or record.message), []).append(record)
    return [(each[0], len(each)) for each in sorted(found.values(), key=len, reverse=True)]


def failure_lines(records: Sequence[Record]) -> list[str]:
    """The failures by type and place: two lines for each kind."""
    lines = []
    for record, number in groups(records):
        lines.append(printable(f"{number} × {brief_error(record)}"))
        where = place(record.traceback)
        first = record.name or record.hash
        lines.append(printable(f"    {where + ', ' if where else ''}{'in' if number == 1 else 'first in'} {first}"))
    return lines


def for_stdout(results: Results) -> str:
    """The results as a table for stdout as it is now: folded to a terminal, else whole."""
    screen = own_screen()
    return folded(results, screen.width, screen.height)


#: Rows of a folded table, however low the terminal is.
LEAST_ROWS = 12


def folded(results: Results, width: int | None, height: int | None) -> str:
    """The results as a table that fits a terminal: first and last rows, and the columns that differ most.

    Without a terminal it is `table` of `pyexp.tables`, whole. Failures are in words, and what is left out is counted.
    """
    if width is None or height is None:
        return str(results)
    records = records_of(results)
    most = max(height - 8, LEAST_ROWS)
    head = list(range(len(records))) if len(records) <= most else list(range(most - most // 3))
    last = [] if len(records) <= most else list(range(len(records) - most // 3, len(records)))
    picked = [records[i] for i in (*head, *last)]
    keys = list(dict.fromkeys(key for record in records for key in record.outputs))
    varies = {key: len({repr(record.outputs.get(key)) for record in records if not record.failed}) > 1 for key in keys}
    columns = [
        Column("name", [printable(record.name or record.hash) for record in picked]),
        *(
            Column(printable(key), [printable(shown(r, key)) for r in picked], rank=varies[key], right=True)
            for key in keys
        ),
    ]
    lines, hidden = table(columns, width)
    named = max((columns_of(line) for line, record in zip(lines[1:], picked, strict=True) if record.failed), default=0)
    rows = [
        f"{padded(line, named)}  {record.status}: {printable(brief_error(record) or '')}" if record.failed else line
        for line, record in zip(lines[1:], picked, strict=True)
    ]
    if last:
        left = records[len(head) : last[0]]
        words = ", ".join(f"{number} {word}" for word, number in Counter(record.status for record in left).items())
        rows.insert(len(head), f"… {len(left)} more ({words}); `| cat` shows all")
    made = [lines[0], *rows]
    if hidden:
        made.append(f"too wide: {', '.join(hidden)}")
    if others := list(dict.fromkeys(key for r in records for key in r.kinds if key not in r.outputs)):
        made.append(f"not shown, as not a scalar: {', '.join(map(printable, others))}")
    if any(record.failed for record in records):
        made.append(counts([record.status for record in records]))
    return "\n".join(cut(line, width) for line in made)
