"""A run in few lines: its failures by type and place, and the plan that folds to the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pyexp.look.screen import own_screen
from pyexp.plan import Plan
from pyexp.results import Record, brief_error, clipped, place
from pyexp.text import cut, display_width, ends, more, printable


def reason(record: Record, width: int | None = None) -> str:
    """Why a cell failed and where, in one line. `width` is that of the error."""
    where = printable(place(record.traceback))
    return cut(printable(brief_error(record)), width) + (f" ({where})" if where else "")


#: Columns that a line on a failure keeps for the error, however narrow the terminal is.
LEAST_ERROR = 20


def failure_line(what: str, after: str, record: Record, width: int | None) -> str:
    """What failed after which time, the error, and the frame of the user's code, in a line.

    Where that is wider than a terminal, the time is left out, and the error is cut.
    """
    whole = f"{what}{after}: {reason(record)}"
    if width is None or display_width(whole) <= width:
        return whole
    rest = display_width(f"{what}: {reason(record, 0)}")
    return f"{what}: {reason(record, max(width - rest, LEAST_ERROR))}"


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


def plan_for_stdout(plan: Plan, rest: str, *, whole: bool = False) -> str:
    """The plan for stdout as it is now: its first and last steps on a terminal, all of them elsewhere."""
    screen = own_screen()
    head, last = ends(plan.steps.size, None if whole else screen.height)
    lines = plan.lines()
    left = Counter(step.action.value for step in plan.steps[len(head) : plan.steps.size - len(last)])
    lines[len(head) : plan.steps.size - len(last)] = more(left, rest, screen.width)
    return "\n".join([*lines, plan.summary()])
