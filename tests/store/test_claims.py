"""Claims of which somebody has removed the files: what is there since is another's, and stays."""

import os
import subprocess
import sys
from pathlib import Path

from pyexp.store import claims

HOLD = """
import sys
from pyexp.store import claims
held = claims.claim(sys.argv[1], sys.argv[2])
print("held" if held else "refused", flush=True)
sys.stdin.read()
"""


def other(folder: Path, name: str) -> subprocess.Popen:
    """Another process that claims the name, and holds it until its stdin is closed."""
    command = [sys.executable, "-c", HOLD, str(folder), name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_who_gives_a_claim_back_leaves_that_of_another(tmp_path):
    mine = claims.claim(str(tmp_path), "a")
    assert mine is not None
    (tmp_path / "a").unlink()
    with other(tmp_path, "a") as process:
        mine.release()
        assert claims.claim(str(tmp_path), "a") is None
        assert list(claims.holders(str(tmp_path))) == ["a"]
        process.communicate()
    assert claims.claim(str(tmp_path), "a") is not None


def test_nobody_waits_at_a_pipe_among_the_claims(tmp_path):
    os.mkfifo(tmp_path / "a")
    assert claims.holders(str(tmp_path)) == {}
    taken = claims.claim(str(tmp_path), "a")
    assert taken is not None
    assert claims.claim(str(tmp_path), "a") is None
    taken.release()
    claims.tidy(str(tmp_path))
    assert not tmp_path.exists()


FORKED = """
import os, sys
from pyexp.store import claims
held, given = (claims.claim(sys.argv[1], name) for name in ("held", "given"))
with claims.inherited(given.descriptor):
    if os.fork() == 0:
        print("forked", flush=True)
        sys.stdin.read()
os._exit(0)
"""


def test_a_fork_that_outlives_a_process_holds_only_the_claim_it_was_given(tmp_path):
    """A pool that was begun while cells ran may never end."""
    command = [sys.executable, "-c", FORKED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "forked\n"
        assert process.wait(60) == 0
        assert list(claims.holders(str(tmp_path))) == ["given"]
