"""What stands on disk is damaged, replaced or foreign: it is never trusted, never stops a run, and is told.

`--report` shows it as an error and changes nothing.
"""

import json
import os
import pickle
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from effects import in_child
from workbench import Bench

import pyexp
from pyexp.store import files, pickling, records

pytestmark = [pytest.mark.faults, pytest.mark.skipif(os.name != "posix", reason="links, pipes and owners")]

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A finished run, of which the witness is empty."""
    made = Bench(tmp_path / "bench")
    made.run(timestamp="t")
    made.begin(1)
    return made


class Ends:
    """Its pickle ends the process that loads it."""

    def __reduce__(self) -> Any:
        return (exit, (3,))


def flipped(at: float) -> Callable[[Path], None]:
    """Flip a bit at this part of a file."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[min(int(len(content) * at), len(content) - 1)] ^= 0x10
        path.write_bytes(content)

    return flip


def truncated(at: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * at)]) and None


def written(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def replaced(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.rename(path.parent.parent.parent / "moved")
        make(path)

    return replace


def linked(path: Path) -> None:
    path.symlink_to(path.parent.parent.parent / "moved")


DAMAGES = {
    "flipped at the start": flipped(0.0),
    "flipped in the middle": flipped(0.5),
    "flipped in the seal": flipped(0.999),
    "cut at the start": truncated(0.01),
    "cut in the middle": truncated(0.5),
    "cut in the seal": truncated(0.999),
    "empty": written(b""),
    "text": written(b"hello"),
    "zeros": written(bytes(1 << 26)),
    "garbage after a plain pickle": written(pickle.dumps({"x": 7}) + b"garbage"),
    "a class that is gone": written(b"\x80\x04\x8c\x04gone\x8c\x05Class\x93."),
    "code that exits": written(pickle.dumps(Ends())),
    "a symlink": replaced(linked),
    "a dangling symlink": replaced(lambda path: path.symlink_to("nowhere")),
    "a pipe": replaced(os.mkfifo),
    "a folder": replaced(lambda path: path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_reported_set_aside_and_made_again(damage: str, bench: Bench, capfd: Any) -> None:
    DAMAGES[damage](bench.cell("b") / "result.pkl")
    before = bench.everything()
    shown = bench.run("--report", timestamp="t")
    assert bench.everything() == before
    assert [result.get("type") for result in shown] == [None, "NotRun", "ValueError"]
    assert "unreadable" in shown[1]["message"]
    capfd.readouterr()

    results = bench.run(timestamp="t")
    assert sorted(bench.ran) == ["b", "bad"]
    assert results[1].value["blob"] == [2] * 1000
    (aside,) = bench.cell("b").glob("*.unreadable*")
    assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning:") and str(aside) in line]
    bench.begin(1)
    bench.run(timestamp="t")
    assert bench.ran == ["bad"]
    assert bench.left_over() == []


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a file away")
def test_a_result_of_another_user_is_neither_loaded_nor_renamed_nor_run_again(bench: Bench, capfd: Any) -> None:
    result = bench.cell("b") / "result.pkl"
    os.chown(result, 12345, 12345)
    capfd.readouterr()
    (before, content) = (files.stamp(str(result)), result.read_bytes())
    shown = bench.run(timestamp="t")
    assert [each.get("type") for each in shown] == [None, "NotRun", "ValueError"]
    why = "its files belong to another user, and loading a result runs code (12345); --trust-owner 12345 loads it"
    assert shown[1]["message"] == why
    told = [line for line in capfd.readouterr().err.splitlines() if "another user" in line]
    assert told == [f"note: 1 cell not loaded: {why}"]
    assert (bench.ran, files.stamp(str(result)), result.read_bytes()) == (["bad"], before, content)
    for words in (["--report"], ["--as-run"]):
        capfd.readouterr()
        assert bench.run(*words, timestamp="t")[1]["message"] == why
        assert capfd.readouterr().err.count(f"note: 1 cell not loaded: {why}") == 1
    for trust in ("12345", "all"):
        assert bench.run(timestamp="t", trust=trust)[1].value["x"] == 2
        assert pyexp.load(bench.cell("b"), trust=trust).value["x"] == 2
        assert pyexp.load(bench.cell("b").parent, trust=trust)[1].value["x"] == 2  # without a warning
    for path in (bench.cell("b"), bench.cell("b").parent):
        with pytest.warns(UserWarning, match=r"another user's.*1 cell of '12345'.*='12345' or trust='all'") as seen:
            loaded = pyexp.load(path, trust="root")
        assert [Path(each.filename).name for each in seen] == ["test_damage.py"]
        assert (loaded if path == bench.cell("b") else loaded[1])["type"] == "NotRun"
    os.chown(bench.cell("a") / "result.pkl", 12346, 12346)
    with pytest.warns(UserWarning, match=r"2 cells of '12345', '12346'.*, pass trust='all'$"):
        pyexp.load(bench.cell("b").parent)


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a file away")
def test_a_whole_run_of_another_user_is_not_trusted(bench: Bench) -> None:
    cell = bench.cell("b")
    for path in [cell, *cell.iterdir()]:
        os.chown(path, 12345, 12345)
    facts = (cell / "result.pkl").lstat()
    sealed(stamp=list(files.stamp_of(facts)))(cell / "record.json")
    shown = bench.run("--report", timestamp="t")[1]
    assert (shown["type"], "another user" in shown["message"]) == ("NotRun", True)


def test_a_plain_pickle_is_a_result(bench: Bench, capfd: Any) -> None:
    (bench.cell("b") / "result.pkl").write_bytes(pickle.dumps({"x": 7, "blob": [], "generation": 0}))
    capfd.readouterr()
    assert [result.get("x") for result in bench.run(timestamp="t")] == [1, 7, None]
    assert bench.ran == ["bad"]
    assert "warning" not in capfd.readouterr().err


def test_a_result_beside_a_failure_does_not_count(bench: Bench) -> None:
    shutil.copy(bench.cell("b") / "result.pkl", bench.cell("bad") / "result.pkl")
    assert bench.run("--report", timestamp="t")[2]["type"] == "ValueError"
    assert bench.run(timestamp="t")[2]["type"] == "ValueError"
    assert bench.ran == ["bad"]
    assert not (bench.cell("bad") / "result.pkl").exists()


def sealed(**changes: Any) -> Callable[[Path], None]:
    """Change keys of a record, and seal it again."""

    def change(path: Path) -> None:
        told = json.loads(path.read_bytes())
        del told["checksum"]
        path.write_bytes(files.checked_json({**told, **changes}))

    return change


def unsealed(**changes: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}, indent=1)) and None


RECORDS = {
    "gone": lambda path: path.unlink(),
    "empty": written(b""),
    "cut": truncated(0.6),
    "flipped": flipped(0.5),
    "another output": lambda path: path.write_text(path.read_text().replace('"x": 2', '"x": 3')) and None,
    "text": written(b"hello"),
    "a list": written(b"[]"),
    "deep": written(b"[" * 100_000),
    "of a newer format": sealed(format=99),
    "without a name": sealed(name=None),
    "wrong times": sealed(started="yesterday", seconds=None),
    "endless times": sealed(started=1e300),
    "wrong outputs": sealed(outputs=[1]),
    "wrong kinds": sealed(kinds=7),
    "wrong needs": sealed(needs=[5]),
    "wrong stamp": sealed(stamp="x"),
    "wrong attempts": sealed(attempts=[{"type": 5}]),
    "wrong status": sealed(status=["done"]),
    "of another cell": sealed(hash="0" * 12),
    "wrong, and not sealed": unsealed(outputs={"x": 9}),
    "a symlink": replaced(linked),
    "a pipe": replaced(os.mkfifo),
    "a folder": replaced(lambda path: path.mkdir()),
}


@pytest.mark.parametrize("damage", RECORDS)
def test_a_damaged_record_is_made_again_from_the_result(damage: str, bench: Bench, capfd: Any) -> None:
    RECORDS[damage](bench.cell("b") / "record.json")
    before = bench.everything()
    assert bench.run("--report", timestamp="t")[1]["x"] == 2
    assert bench.everything() == before
    for _ in range(2):
        bench.begin(1)
        results = bench.run(timestamp="t")
        assert (results[1]["x"], results[1].value["blob"]) == (2, [2] * 1000)
        assert bench.ran == ["bad"]
    assert bench.left_over() == []


@pytest.mark.parametrize("damage", RECORDS)
def test_a_damaged_record_of_a_failure_is_no_hit(damage: str, bench: Bench) -> None:
    RECORDS[damage](bench.cell("bad") / "record.json")
    results = bench.run(timestamp="t")
    assert (results[2]["type"], bench.ran) == ("ValueError", ["bad"])


PLACES = {
    "a file": lambda path: path.write_text("in the way"),
    "a symlink": linked,
    "a dangling symlink": lambda path: path.symlink_to("nowhere"),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("place", PLACES)
def test_what_stands_in_the_place_of_a_folder_is_set_aside(place: str, bench: Bench, capfd: Any) -> None:
    folder = bench.cell("b")
    elsewhere = folder.parent.parent / "moved"
    folder.rename(elsewhere)
    linked_to = bench.everything()
    (folder.symlink_to(elsewhere) if place == "a symlink" else PLACES[place](folder))
    before = bench.everything()
    assert bench.run("--report", timestamp="t")[1]["type"] == "NotRun"
    assert bench.everything() == before
    capfd.readouterr()
    assert bench.run(timestamp="t")[1]["x"] == 2
    assert sorted(bench.ran) == ["b", "bad"]
    (aside,) = folder.parent.glob("b-*.unreadable")
    assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning:") and str(aside) in line]
    assert {path: seen for path, seen in bench.everything().items() if "moved/" in path} == {
        path: seen for path, seen in linked_to.items() if "moved/" in path
    }
    bench.begin(1)
    bench.run(timestamp="t")
    assert bench.ran == ["bad"]


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped", "text", "a list", "deep", "a symlink", "a pipe"])
def test_a_run_whose_description_is_damaged_is_still_found(damage: str, bench: Bench) -> None:
    RECORDS[damage](next(bench.root.glob("deep/out/e/t/run.json")))
    before = bench.everything()
    assert [result.get("x") for result in bench.run("--report")] == [1, 2, None]
    assert bench.everything() == before
    bench.run(resume=True)
    assert bench.ran == ["bad"]
    assert json.loads(next(bench.root.glob("deep/out/e/t/run.json")).read_text())["experiment"] == "e"


def test_a_file_in_the_place_of_the_claims_is_one_clear_line(bench: Bench) -> None:
    (bench.cell("b").parent / ".claims").write_text("in the way")
    with pytest.raises(pyexp.errors.StoreError, match=r"cannot write.*\.claims"):
        bench.run(timestamp="t")
    assert bench.ran == []
    assert bench.run("--report", timestamp="t")[1]["x"] == 2


def as_nobody(do: Callable[[], Any]) -> Any:
    """What `do` returns in a process without special rights."""

    def child(tell: Callable[[Any], None]) -> None:
        if IS_ROOT:
            os.setgid(65534)
            os.setuid(65534)
        try:
            tell(do())
        except BaseException as error:
            tell(f"{type(error).__name__}: {error}")

    status, told = in_child(child)
    assert status == 0
    return told[0]


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody can reach."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_runs(public: Path) -> None:
    bench = Bench(public / "bench")
    bench.run(timestamp="t")
    bench.begin(1)
    bench.witness.chmod(0o666)
    paths = [bench.root, *bench.root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = bench.everything()
        told = as_nobody(lambda: bench.run(timestamp="t"))
        assert told.startswith("StoreError: cannot write")
        assert "Permission denied" in told
        assert "--output-dir" in told
        assert as_nobody(lambda: bench.run(timestamp="u")).startswith("StoreError: cannot write")
        assert as_nobody(lambda: [result.get("x") for result in bench.run("--report")]) == [1, 2, None]
        assert (bench.everything(), bench.ran) == (before, [])
    finally:
        for path in paths:
            path.chmod(0o755)


@pytest.mark.parametrize("what", ["cell", "run", "everything"])
def test_a_folder_that_is_removed_while_it_is_used_is_made_again(what: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench")

    removed = []

    def fn(config: Any) -> Any:
        if config.name == "b" and not removed:
            removed.append(config.out)
            shutil.rmtree({"cell": config.out, "run": config.out.parent, "everything": bench.root / "deep"}[what])
        return bench.fn(config)

    experiment = pyexp.experiment(name="e", executor="inline", quiet=True)(fn)
    configs = [{"name": name, "x": 1} for name in "abc"]
    out = bench.root / "deep" / "out"
    results = experiment.run(configs, lambda results: results, output_dir=out, timestamp="t")
    assert [result.get("type") for result in results] == [None, None, None]
    bench.begin(1)
    results = experiment.run(configs, lambda results: results, output_dir=out, resume=True)
    assert [result["x"] for result in results] == [1, 1, 1]
    assert bench.ran == ([] if what == "cell" else ["a"])


def test_every_flipped_bit_of_a_sealed_result_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "result.pkl"
    value = {"loss": 0.5, "curve": [1.0, 2.5], "name": "a"}
    pickling.save(str(path), value, durable=False)
    content = path.read_bytes()
    for position in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(pyexp.errors.ResultError):
            records.load_verified(str(path))
    for size in range(len(content)):
        path.write_bytes(content[:size])
        try:
            assert records.load_verified(str(path))[0] == value
        except pyexp.errors.ResultError:
            continue
        assert size == len(content) - files.SEAL, "only the whole pickle, without its seal, is a plain result"


def test_a_result_of_the_first_seal_is_one(tmp_path: Path) -> None:
    payload = pickle.dumps({"loss": 0.5})
    path = tmp_path / "result.pkl"
    path.write_bytes(
        payload + b"\npyexp-seal-1\n" + len(payload).to_bytes(8, "big") + zlib.crc32(payload).to_bytes(4, "big")
    )
    assert records.load_verified(str(path))[0] == {"loss": 0.5}
    assert files.seal_of(str(path)) == files.trailer(str(path)) == (len(payload), zlib.crc32(payload), b"", b"")
    flipped(0.3)(path)
    with pytest.raises(files.DamagedError):
        files.seal_of(str(path))


def test_a_result_of_the_second_seal_is_one(tmp_path: Path) -> None:
    payload, cell = pickle.dumps({"loss": 0.5}), b"0123456789ab"
    path = tmp_path / "result.pkl"
    crc = zlib.crc32(payload + cell)
    path.write_bytes(payload + len(payload).to_bytes(8, "big") + crc.to_bytes(4, "big") + cell + b"\npyexp-seal-2\n")
    assert records.load_verified(str(path))[0] == {"loss": 0.5}
    assert files.seal_of(str(path), cell.decode()) == files.trailer(str(path)) == (len(payload), crc, cell, b"")
    for position in (0.3, 0.6):
        flipped(position)(path)
        with pytest.raises(files.DamagedError):
            files.seal_of(str(path), cell.decode())
        flipped(position)(path)


def test_every_flipped_bit_of_a_record_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    content = files.checked_json({"outputs": {"loss": 0.5}, "name": "é\ud800"})
    path.write_bytes(content)
    assert files.read_checked(str(path))["name"] == "é\ud800"
    for position in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert files.read_checked(str(path)) is None
