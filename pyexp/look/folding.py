"""Results in few lines: the table that folds to the terminal, and the failures by type and place."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pyexp.look.screen import Column, columns_of, cut, own_screen, padded, printable, table
from pyexp.plan import Plan
from pyexp.results import Record, clipped, labels, place, records_of
from pyexp.tables import Results, brief_error, counts, instead, shown


def reason(record: Record) -> str:
    """Why a cell failed and where, in one line."""
    return _placed(clipped(_error(record)), record)


def _error(record: Record) -> str:
    return f"{record.type}: {record.message}" if record.message else record.type


def _placed(why: str, record: Record) -> str:
    where = place(record.traceback)
    return printable(f"{why} ({where})" if where else why)


#: Columns that a line on a failure keeps for the error, however narrow the terminal is.
LEAST_ERROR = 20


def failure_line(what: str, after: str, record: Record, width: int | None) -> str:
    """What failed after which time, the error, and the frame of the user's code, in a line.

    Where that is wider than a terminal, the time is left out, and the error is cut.
    """
    whole = f"{what}{after}: {reason(record)}"
    if width is None or columns_of(whole) <= width:
        return whole
    error = printable(clipped(_error(record)))
    rest = columns_of(f"{what}: {reason(record)}") - columns_of(error)
    return f"{what}: {_placed(cut(error, max(width - rest, LEAST_ERROR)), record)}"


#: Kinds of failures that the end of a run prints.
MOST_KINDS = 20


def groups(records: Sequence[Record]) -> list[list[Record]]:
    """The failures by type and place, the most frequent first.

    Where no place is known, by type and message.
    """
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.status == "failed":
            found.setdefault((record.type, place(record.traceback) or record.message), []).append(record)
    return sorted(found.values(), key=len, reverse=True)


def failure_lines(records: Sequence[Record], logs: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    """The failures by type and place: how many, the error, the frame, and the first cell with its log.

    `logs` and `names` are by the hash of the cell.
    """
    lines = []
    kinds = groups(records)
    for kind in kinds[:MOST_KINDS]:
        record = kind[0]
        name = printable(names.get(record.hash) or record.name or record.hash)
        if len(kind) == 1:
            lines.append(f"{name}: {reason(record)}")
        else:
            where = place(record.traceback)
            is_common = len(set(map(brief_error, kind))) == 1
            words = (
                brief_error(record) if is_common else f"{record.type}, first: {clipped(record.message) or 'no message'}"
            )
            lines.append(printable(f"{len(kind)} × {words}"))
            lines.append(f"    {printable(where) + ', ' if where else ''}first in {name}")
        if log := logs.get(record.hash):
            lines.append(f"    log: {log}")
    if rest := kinds[MOST_KINDS:]:
        lines.append(f"… and {sum(map(len, rest))} more, of {len(rest)} other kinds")
    return lines


def for_stdout(results: Results, rest: str, *, whole: bool = False) -> str:
    """The results as a table for stdout: folded on a terminal, whole elsewhere. `rest` says what shows all."""
    screen = own_screen()
    return str(results) if whole else folded(results, screen.width, screen.height, rest)


def plan_for_stdout(plan: Plan, rest: str, *, whole: bool = False) -> str:
    """The plan for stdout as it is now: its first and last steps on a terminal, all of them elsewhere."""
    screen = own_screen()
    width, height = screen.width, screen.height
    if whole or width is None or height is None:
        return str(plan)
    head, last = ends(plan.steps.size, height)
    lines = plan.lines()
    left = Counter(step.action.value for step in plan.steps[len(head) : plan.steps.size - len(last)])
    return "\n".join([*(lines[i] for i in head), *more(left, rest, width), *(lines[i] for i in last), plan.summary()])


#: Rows of a folded table, however low the terminal is.
LEAST_ROWS = 12


def ends(size: int, height: int) -> tuple[range, range]:
    """The positions of the first and the last rows of a table that a terminal shows; all are first if they fit.

    >>> ends(12, 24), ends(500, 24)
    ((range(0, 12), range(12, 12)), (range(0, 11), range(495, 500)))
    """
    most = max(height - 8, LEAST_ROWS)
    return (
        (range(size), range(size, size)) if size <= most else (range(most - most // 3), range(size - most // 3, size))
    )


def more(left: Mapping[str, int], rest: str, width: int) -> list[str]:
    """A line on what is folded away, if anything is: how much of each kind if that fits, and what shows it.

    >>> more({"done": 5, "new": 40}, "-v shows all", 80), more({"done": 5, "new": 40}, "-v shows all", 30)
    (['… 45 more (5 done, 40 new); -v shows all'], ['… 45 more; -v shows all'])
    """
    number = sum(left.values())
    whole = f"… {number} more ({', '.join(f'{n} {word}' for word, n in left.items())}); {rest}"
    return [] if not number else [whole] if columns_of(whole) <= width else [f"… {number} more; {rest}"]


def folded(results: Results, width: int | None, height: int | None, rest: str = "`| cat` shows all") -> str:
    """The results as a table that fits a terminal: first and last rows, and the columns that differ most.

    Without a terminal it is `table` of `pyexp.tables`, whole. Failures are in words, and what is left out is counted.
    `rest` says what shows that.
    """
    if width is None or height is None:
        return str(results)
    records = records_of(results)
    head, last = ends(len(records), height)
    names = labels(records)
    picked = [records[i] for i in (*head, *last)]
    keys = list(dict.fromkeys(key for record in records for key in record.outputs))
    varies = {key: len({repr(record.outputs.get(key)) for record in records if not record.failed}) > 1 for key in keys}
    columns = [
        Column("name", [printable(names[i]) for i in (*head, *last)]),
        *(
            Column(printable(key), [printable(shown(r, key)) for r in picked], rank=varies[key], right=True)
            for key in keys
        ),
    ]
    lines, hidden = table(columns, width)
    named = max((columns_of(line) for line, record in zip(lines[1:], picked, strict=True) if record.failed), default=0)
    rows = [
        f"{padded(line, named)}  {printable(instead(record))}" if record.failed else line
        for line, record in zip(lines[1:], picked, strict=True)
    ]
    left = Counter(record.status for record in records[len(head) : len(records) - len(last)])
    made = [lines[0], *rows[: len(head)], *more(left, rest, width), *rows[len(head) :]]
    if hidden:
        made.append(f"too wide: {', '.join(hidden)}")
    if others := list(dict.fromkeys(key for r in records for key in r.kinds if key not in r.outputs)):
        made.append(f"not shown, as not a scalar: {', '.join(map(printable, others))}")
    if any(record.failed for record in records):
        made.append(counts([record.status for record in records]))
    return "\n".join(cut(line, width) for line in made)
