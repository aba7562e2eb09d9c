"""An experiment of three cells in this process, one of which fails, and what is on disk of it."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from effects import Disk, Effects, in_child

import pyexp
from pyexp import runner
from pyexp.store.files import is_temporary

CONFIGS = [{"name": "a", "x": 1}, {"name": "b", "x": 2}, {"name": "bad", "x": 3}]


class Bench:
    """An experiment whose runs are in `root`, and which notes beside it what it runs."""

    def __init__(self, place: Path, disk: Disk | None = None, mercy: random.Random | None = None) -> None:
        self.failing = {"bad"}
        self.root = place / "disk"
        self.witness = place / "witness"
        place.mkdir()
        if disk is None:
            self.root.mkdir()
        else:
            disk.after_power_cut(self.root, mercy)
        self.begin(1)

    def begin(self, generation: int) -> None:
        """From now on results are of this generation, and what was run before is forgotten."""
        self.now = generation
        self.witness.write_text("")

    def fn(self, config: Any) -> Any:
        with open(self.witness, "a") as witness:
            witness.write(f"{config.name}\n")
        if config.name in self.failing:
            raise ValueError("it is bad")
        return {"x": config.x, "generation": self.now, "blob": [config.x] * 1000}

    def run(self, *argv: str, **options: Any) -> Any:
        made = pyexp.experiment(name="e", executor="inline", quiet=True)(self.fn)
        return made.run(CONFIGS, lambda results: results, argv=argv, output_dir=self.root / "deep" / "out", **options)

    @property
    def ran(self) -> list[str]:
        return self.witness.read_text().split()

    def cell(self, name: str) -> Path:
        (found,) = self.root.glob(f"deep/out/e/*/{name}-*")
        return found

    def left_over(self) -> list[str]:
        """Temporary files, claims and what else does not belong below the root."""
        names = [path.name for path in self.root.rglob("*")]
        return [name for name in names if is_temporary(name) or name == ".claims"]

    def everything(self) -> dict[str, Any]:
        """All that can be seen of what is on disk, by path."""
        return {str(path): _seen(path) for path in sorted(self.root.rglob("*"))}


def _seen(path: Path) -> Any:
    facts = path.lstat()
    content = path.read_bytes() if path.is_file() else None
    return (facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_uid, content)


def performed(
    bench: Bench, options: dict[str, Any], fatal: int | None = None, torn: bool = False
) -> tuple[bool, list[Any]]:
    """Run in a child that is killed at an effect: whether it was, and its effects, its reports of cells among them."""

    def do(tell: Callable[[Any], None]) -> None:
        take = runner.Runner._take

        def taking(self: Any, cell: Any, record: Any) -> None:
            take(self, cell, record)
            if not record.failed:
                tell(("report", cell.name))

        runner.Runner._take = taking  # type: ignore[method-assign]
        Effects(bench.root, tell, fatal, torn).install()
        bench.run(**options)

    status, told = in_child(do)
    assert status == 0 or os.WTERMSIG(status) == 9
    return status != 0, told


def reported_in(told: list[Any]) -> set[str]:
    return {effect[1] for effect in told if effect[0] == "report"}
