"""The commands that look after an output folder: what is damaged, what can go, and two folders in one."""

from argparse import Namespace

from pyexp.look.runs import near, runs_below
from pyexp.look.screen import Screen, size
from pyexp.results import cells_in_words
from pyexp.store import garbage, layout, union
from pyexp.store.garbage import Item
from pyexp.store.layout import Run
from pyexp.store.verify import verified
from pyexp.text import in_words, printable


def verify(said: Namespace, screen: Screen) -> int:
    """Name each damaged file below a folder and what is wrong with it."""
    sound, damaged, unknown = 0, 0, 0
    for path in runs_below(layout.absolute(said.folder)):
        found = verified(Run(path))
        sound += found.sound
        for finding in found.findings:
            damaged += finding.is_damage
            unknown += not finding.is_damage
            line = f"{finding.kind}: {near(finding.path)}: {finding.words}"
            screen.write(f"{printable(line)}\n")
    total = sound + damaged + unknown
    counts = in_words({"sound": sound, "damaged or missing": damaged, "that could not be verified": unknown})
    screen.line(f"{total} {'file' if total == 1 else 'files'}: {counts}")
    return 1 if damaged else 0


def gc(said: Namespace, screen: Screen) -> int:
    """Remove what no run needs below a folder."""
    folder = layout.absolute(said.folder)
    items = garbage.found(runs_below(folder))
    return _cleared(items, screen, does=said.yes)


def rm(said: Namespace, screen: Screen) -> int:
    """Remove runs: all of them, or none if one of them has to stay."""
    items = garbage.of_runs([layout.absolute(run) for run in said.runs])
    return _cleared(items, screen, does=said.yes)


def _cleared(items: list[Item], screen: Screen, *, does: bool) -> int:
    """List the items, and remove them if `does`. Return 1 if one of them had to stay."""
    total, stayed = 0, 0
    for item in items:
        fault = garbage.remove(item) if does else ""
        stayed += bool(fault)
        total += 0 if fault else item.size
        line = f"{near(item.path)}  {size(item.size)}  ({item.why})"
        screen.write(f"{printable(f'{line}: not removed, {fault}' if fault else line)}\n")
    gone = len(items) - stayed
    if not items:
        screen.line("there is nothing to remove")
    elif does:
        screen.line(f"removed {gone} of {len(items)}: {total} bytes")
    else:
        screen.line(f"would remove {gone}: {total} bytes; --yes does it")
    return 1 if stayed else 0


def merge(said: Namespace, screen: Screen) -> int:
    """Add what is in one output folder to another."""
    one, other = map(layout.absolute, (said.a, said.b))
    added, left = 0, 0
    for event in union.merged(one, other, durable=said.durable):
        added += event.is_added
        left += not event.is_added
        if not event.is_added:
            screen.write(f"{printable(f'left: {near(event.path)}: {event.words}')}\n")
    screen.line(f"{cells_in_words(added)} added to {printable(near(one))}{f', {left} left' if left else ''}")
    return 1 if left else 0
