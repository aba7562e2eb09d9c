"""What is to be run, and what was found of it before: the values that the shell and a performance share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pyexp.cli import Options
from pyexp.configs import FrozenConfig
from pyexp.dotted import Config
from pyexp.index import EMPTY, Index
from pyexp.plan import Cell, Plan
from pyexp.results import Record
from pyexp.store import Run, Sight
from pyexp.tensor import Tensor

Function = Callable[[Config], Any]


class Job(NamedTuple):
    """What is to be run: the experiment's name, its function, its grid of configs.

    `command` asks for it once more, but for the options that say which run; `""` where no script was started.
    """

    name: str
    fn: Function
    configs: Tensor[FrozenConfig]
    command: str = ""
    initializer: Callable[[], Any] | None = None


class Look(NamedTuple):
    """What was found before a run: its folder (None: there is none yet), what is in it, and the plan made of that.

    The plan is for the cells that were selected, `cells` is the whole grid, and `is_described` says whether `run.json`
    has it, `is_indexed` whether the index, which is `known`, says that.
    """

    run: Run | None
    plan: Plan
    sights: dict[str, Sight]
    cells: Tensor[Cell]
    is_described: bool = False
    known: Index = EMPTY
    is_indexed: bool = False

    def unindexed(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """Those of the records, by folder, that the index did not have when it was looked at."""
        had = {folder: sight.record for folder, sight in self.sights.items() if sight.indexed}
        return {folder: record for folder, record in records.items() if had.get(folder) is not record}


class Interrupted(KeyboardInterrupt):
    """A run that a signal ended; says what is finished and how to go on."""

    def __init__(self, words: str, number: int) -> None:
        super().__init__(words)
        self.status = 128 + number


def again(job: Job, options: Options, run: Run, *flags: str) -> str:
    """What to type, or to call, to go on with this run."""
    name = [] if options.timestamp is False else [Path(run.path).name]
    if job.command:
        return " ".join([job.command, *(f"--timestamp {each}" for each in name), *flags])
    said = [*(f"timestamp={each!r}" for each in name), *("last_failed=True" for _ in flags)]
    return f"experiment.run({', '.join(said)})"
