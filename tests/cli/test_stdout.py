"""What pyexp itself prints, on a stdout that cannot take all of it, or that nobody reads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = r"""
import pyexp

@pyexp.experiment(name="e", executor="inline", timestamp="t")
def experiment(config):
    if config.i:
        raise ValueError("x" * 100_000)
    return {"n": 10**5000, "long": "é" * 300, "s\ud800": 1}

if __name__ == "__main__":
    experiment.run(configs=[{"name": f"b\ud800{i}", "i": i} for i in range(2)])
"""


@pytest.fixture
def go(tmp_path: Path):
    (tmp_path / "main.py").write_text(SCRIPT)

    def run(*args: str, encoding: str = "utf-8") -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
        command = [sys.executable, "main.py", *args]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            encoding=encoding,
            errors="replace",
            check=False,
        )

    return run


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_what_stdout_cannot_spell_is_spelled_out(go, encoding):
    for args in (["--help"], ["-n"], [], ["--report"], ["--list"]):
        ended = go(*args, encoding=encoding)
        assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert r"b\ud8000" in go("--report", encoding=encoding).stdout


def test_long_values_and_long_messages_are_cut_off(go):
    ended = go()
    assert max(map(len, ended.stdout.splitlines())) < 300
    assert max(map(len, ended.stderr.splitlines())) < 300
    assert "0x31e2" in ended.stdout
    assert "…" in ended.stdout


def test_a_reader_that_goes_is_no_error(tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT.replace("range(2)", "range(20_000)"))
    with subprocess.Popen(
        [sys.executable, "main.py", "-n"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
