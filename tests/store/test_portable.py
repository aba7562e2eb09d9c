"""Runs and claims where Python has not all that it has on POSIX, imitated in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_LOCKS = "import sys; sys.modules['fcntl'] = None\n"

# As on Windows: a lock belongs to the opened file and keeps its bytes from others, and a file that is open stays.
AS_ON_WINDOWS = """
import errno, fcntl, os, subprocess, sys, types  # subprocess asks for msvcrt, too

def locking(descriptor, mode, count):
    assert (mode, count) == ("now", 1)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) > os.fstat(descriptor).st_size + 10_000, "the content would be locked"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "locked") from None

def unlink(path, remove=os.unlink):
    for number in os.listdir("/proc/self/fd"):
        if os.path.realpath(f"/proc/self/fd/{number}") == os.path.realpath(path):
            error = PermissionError(errno.EACCES, "open", path)
            error.winerror = 32
            raise error
    remove(path)

os.unlink = unlink
del os.pread, os.pwrite, os.O_NOFOLLOW, os.O_NONBLOCK, os.O_CLOEXEC
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK="now")
sys.modules["fcntl"] = None
"""

RUN = """
import pyexp

@pyexp.experiment(name="e", executor="inline", quiet=True)
def experiment(config):
    return config.x + 1

print(experiment.run(configs=[{"x": 1}, {"x": 2}], report=lambda results: [r.value for r in results]))
"""

CLAIM = """
import sys
from pyexp.store import claims

held = claims.claim("claims", "a")
if held:
    claims.sign(held.descriptor, 4711)
print("held" if held else claims.holders("claims"), flush=True)
sys.stdin.read()
if held:
    held.release()
"""


def started(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("system", [WITHOUT_LOCKS, AS_ON_WINDOWS], ids=["without locks", "as on Windows"])
def test_an_experiment_runs_in_its_own_process(tmp_path: Path, system: str) -> None:
    with started(system + RUN, tmp_path) as run:
        assert run.communicate()[0] == "[2, 3]\n"
    assert run.returncode == 0
    assert not list(tmp_path.rglob(".claims"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks /proc which files are open")
def test_a_claim_is_one_processes_where_locks_are_mandatory(tmp_path: Path) -> None:
    with started(AS_ON_WINDOWS + CLAIM, tmp_path) as first:
        assert first.stdout
        assert first.stdout.readline() == "held\n"
        with started(AS_ON_WINDOWS + CLAIM, tmp_path) as second:
            said = second.communicate()[0]
        assert said.startswith("{'a': '(process 4711 on ")
        first.communicate()
    assert first.returncode == 0
    assert not list((tmp_path / "claims").iterdir()), "a claim that was given back leaves no file"
    with started(AS_ON_WINDOWS + CLAIM, tmp_path) as third:
        assert third.communicate()[0] == "held\n"
