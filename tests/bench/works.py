"""The works that are timed: what is done, in which unit, beside which limit, and what is aimed at.

A work is a function of the same name in each contestant's module; `limit` is the least that the job can cost on this
machine, and a contestant of its own. A goal is a ratio to the limit where it has `x`, else an amount in the unit.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the table: what is done, the unit of its figure, the goal, and how often it is done in a run."""

    name: str
    title: str
    unit: str
    goal: str
    count: int


UNITS = {"ms": 1e-3, "µs": 1e-6, "s": 1.0, "MB": 1e6}

WORKS = (
    Work("import_package", "import, fresh process", "ms", "1.3x", 1),
    Work("whole_script", "whole script, 1,000 finished cells", "ms", "70 ms", 1000),
    Work("noop_inline", "no-op cell, in this process, not synced", "ms", "0.2 ms", 300),
    Work("noop_inline_durable", "no-op cell, in this process, synced", "ms", "", 100),
    Work("noop_fork", "no-op cell, fork, not synced", "ms", "1.3x", 200),
    Work("noop_fresh", "no-op cell, fresh interpreter, not synced, one at a time", "ms", "", 40),
    Work("sleep_2", "40 cells of 0.25 s, 2 at a time", "s", "1.05x", 40),
    Work("sleep_8", "40 cells of 0.25 s, 8 at a time", "s", "1.15x", 40),
    Work("all_finished", "all finished, 10^4 cells: plan to results, for each", "µs", "10 µs", 10_000),
    Work("large_finished", "all finished, 100 arrays of 10 MB: a report that reads a scalar", "ms", "10 ms", 100),
    Work("sweep_walk", "sweep of 4 axes of 10, config of 20 keys: walk all, for each", "µs", "4 µs", 10_000),
    Work("config_hash", "`config_hash` of a config of 20 keys", "µs", "15 µs", 20_000),
    Work("hash_walk", "hash of each config of that sweep", "µs", "4 µs", 10_000),
    Work("select_query", "select from 10^5 results by a query on an output", "ms", "22 ms", 100_000),
    Work("select_glob", "select from 10^5 results by a glob", "ms", "30 ms", 100_000),
    Work("select_axis", "select from 10^5 results by a query on an axis", "ms", "1 ms", 100_000),
    Work("plan_new", "plan of 10^5 cells, nothing done yet", "s", "2 s", 100_000),
)

BY_NAME = {work.name: work for work in WORKS}
