"""The disk is full, or files may not grow, at every stage of a run: what is finished stays, the rest is run again."""

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from effects import in_child
from workbench import Bench

import pyexp

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not hasattr(os, "fork"), reason="runs in a fork")]


def told_of_run(bench: Bench, limit: Callable[[], None] = lambda: None) -> Any:
    """How a run in a child ended: for each cell its `x` or its error's type; or the StoreError that refused it."""

    def child(tell: Callable[[Any], None]) -> None:
        limit()
        try:
            tell([result.get("x", result.get("type")) for result in bench.run(timestamp="t")])
        except pyexp.errors.StoreError as error:
            tell(str(error))

    status, told = in_child(child)
    assert status == 0, "it ended with an exception"
    return told[0]


def check(bench: Bench, told: Any) -> None:
    """Check what a run on a full disk said, and that the next one, with room again, makes it good."""
    if isinstance(told, str):
        assert told.startswith("cannot write results below")
        assert bench.ran == []
    else:
        assert set(told[:2]) <= {1, 2, "OSError"}
    bench.begin(1)
    results = bench.run(timestamp="t")
    assert [result.get("x", result.get("type")) for result in results] == [1, 2, "ValueError"]
    assert [result.value["blob"] for result in results[:2]] == [[1] * 1000, [2] * 1000]
    if not isinstance(told, str):
        assert not set(bench.ran) & {name for name, x in zip("ab", told, strict=False) if x != "OSError"}
    assert bench.left_over() == []


@pytest.mark.parametrize("size", [0, 1, 100, 500, 700, 1000, 2000, 10_000])
def test_files_that_may_not_grow(size: int, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    told = told_of_run(bench, limit)
    if size in (0, 1000, 10_000):
        assert (told == [1, 2, "ValueError"]) == (size == 10_000), "the limit has no effect, or too much"
    check(bench, told)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], stderr=subprocess.DEVNULL, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount")
def test_a_full_disk_at_every_stage(small_disk: Path) -> None:
    said = set()
    for free in range(0, 60, 4):
        bench = Bench(small_disk / "bench")
        bench.witness = small_disk.parent / "witness"
        bench.begin(1)
        filler = small_disk / "filler"
        usage = shutil.disk_usage(small_disk)
        filler.write_bytes(bytes(max(usage.free - free * 1024, 0)))
        told = told_of_run(bench)
        said.add(str(told)[:12])
        filler.unlink()
        check(bench, told)
        shutil.rmtree(small_disk / "bench")
    assert len(said) > 2, "the disk was full at one stage alone"
