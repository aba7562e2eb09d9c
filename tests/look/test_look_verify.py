"""`python -m pyexp verify`: one flipped bit in a result, a record or a description is found and named."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp.store import pickling
from pyexp.store.layout import Run
from pyexp.store.verify import verified
from tests.cli.scripts import go, write
from tests.look.outside import look, refused

GOLDEN = Path(__file__).parents[1] / "results" / "golden" / "format1"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which two grids were run, and a cell failed: it has a history too."""
    folder = tmp_path_factory.mktemp("sound")
    write(folder)
    for words in (["-k", "*seed0"], ["fixed=True", "-k", "*seed0"]):
        assert go(folder, "-q", "--executor", "inline", "--timestamp", "t", *words).returncode == 0
    return folder / "out" / "mnist" / "t"


def sealed(run: Path) -> list[Path]:
    return [run / "run.json", run / "history.jsonl", *run.glob("*/record.json"), *run.glob("*/result.pkl")]


def test_what_is_sound_is_said_to_be(sound: Path) -> None:
    assert len(sealed(sound)) == 2 + 4 + 3
    done = look(sound.parents[2], "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "9 files: 9 sound\n"


@given(st.data())
def test_a_flipped_bit_is_found_wherever_it_is(sound: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sealed(sound)))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    try:
        path.write_bytes(flipped)
        assert str(path) in [finding.path for finding in verified(Run(str(sound))).findings if finding.is_damage]
    finally:
        path.write_bytes(content)


def test_every_bit_of_the_ends_of_the_files_counts(sound: Path) -> None:
    """There the checksums are, and what says that there is one."""
    for path in sealed(sound):
        content = path.read_bytes()
        try:
            for place in range(max(len(content) - 48, 0) * 8, len(content) * 8):
                flipped = bytearray(content)
                flipped[place // 8] ^= 1 << place % 8
                path.write_bytes(flipped)
                found = verified(Run(str(sound))).findings
                assert [finding.path for finding in found if finding.is_damage] == [str(path)], place
        finally:
            path.write_bytes(content)


@given(st.data())
def test_a_file_that_was_cut_off_is_found(sound: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sealed(sound)))
    content = path.read_bytes()
    try:
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 2))])
        found = verified(Run(str(sound))).findings
        # Lines of the history that are gone with their ends leave no trace.
        assert path.name == "history.jsonl" or str(path) in [each.path for each in found if each.is_damage]
    finally:
        path.write_bytes(content)


def test_each_damaged_file_is_named_with_what_is_wrong(folder: Path, first: Path, second: Path) -> None:
    cells = sorted(second.glob("exp_*"))
    (cells[0] / "result.pkl").write_bytes(b"short")
    (cells[1] / "record.json").write_text("{}")
    (cells[2] / "result.pkl").unlink()
    shutil.copy(cells[4] / "result.pkl", cells[3] / "result.pkl")
    (first / "run.json").unlink()
    done = look(folder, "verify", "out")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "missing: out/mnist/first/run.json: the grid is lost"
    near = [cell.relative_to(folder) for cell in cells]
    assert lines[1:5] == [
        f"damaged: {near[0]}/result.pkl: its seal is gone",
        f"damaged: {near[1]}/record.json: its checksum does not fit",
        f"missing: {near[2]}/result.pkl: its record says that it was there",
        f"damaged: {near[3]}/result.pkl: it is the result of another cell",
    ]
    assert lines[5].endswith("5 damaged or missing")


def test_a_result_that_came_after_its_record_is_found(folder: Path, second: Path) -> None:
    cell = next(second.glob("exp_*"))
    pickling.save(str(cell / "result.pkl"), {"accuracy": 0.5}, durable=False)
    near = cell.relative_to(folder)
    assert f"damaged: {near}/result.pkl: its record is that of another result\n" in look(folder, "verify").stdout


def test_what_an_earlier_pyexp_wrote_is_no_damage(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "out" / "golden" / "t")
    done = look(tmp_path, "verify")
    assert done.returncode == 0, done.stdout
    assert "unverified: out/golden/t/run.json: an earlier pyexp wrote it, without a checksum\n" in done.stdout


def test_a_result_without_its_record_is_verified_by_its_own_seal(folder: Path, second: Path) -> None:
    cell = next(second.glob("exp_*"))
    (cell / "record.json").unlink()
    assert look(folder, "verify").returncode == 0
    content = bytearray((cell / "result.pkl").read_bytes())
    content[-1] ^= 1
    (cell / "result.pkl").write_bytes(content)
    assert look(folder, "verify").returncode == 1


def test_a_description_that_was_edited_is_loaded_and_continued(folder: Path, second: Path) -> None:
    text = (second / "run.json").read_text()
    (second / "run.json").write_text(text.replace('"experiment": "mnist"', '"experiment":   "mnist"'))
    assert look(folder, "verify").returncode == 1
    assert go(folder, "--timestamp", "second", "fixed=True", "--report").returncode == 0
    assert go(folder, "--timestamp", "second", "-q", "fixed=True", "mlp.width=9").returncode == 0
    assert look(folder, "verify").returncode == 0  # it is written anew


def test_what_is_no_folder_of_results_is_refused(tmp_path: Path) -> None:
    assert "there is no run" in refused(tmp_path, "verify")
    (tmp_path / "out").mkdir()
    assert "no output folder" in refused(tmp_path, "verify")
