"""`python -m pyexp`, as a person calls it: with pipes, or on a terminal of some width."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

from tests.cli.scripts import environment

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
#: The folder that this checkout's pyexp is imported from.
ROOT = str(Path(__file__).parents[2])


def variables(**changes: str) -> dict[str, str]:
    return environment(PYTHONPATH=ROOT, **changes)


def look(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`python -m pyexp …` in the folder, with what it printed and its exit status."""
    command = [sys.executable, "-m", "pyexp", *map(str, words)]
    return subprocess.run(
        command, cwd=folder, env=variables(), capture_output=True, text=True, timeout=120, check=False
    )


def refused(folder: Path, *words: str | Path) -> str:
    """The one line with which it refuses something, once it has ended with status 2."""
    done = look(folder, *words)
    assert (done.returncode, done.stdout) == (2, ""), done
    (line,) = done.stderr.splitlines()
    return line


def on_terminal(
    folder: Path,
    *asked: str | Path,
    columns: int,
    lines: int = 24,
    words: list[str] | None = None,
    interrupt: str = "",
    **changes: str,
) -> str:
    """What it, or another command, writes to a terminal of this size. Ctrl-C comes once it has written `interrupt`."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    known = variables(TERM="xterm-256color", **changes)
    command = words or [sys.executable, "-m", "pyexp", *map(str, asked)]
    started = subprocess.Popen(command, cwd=folder, env=known, stdout=follower, stderr=follower)
    os.close(follower)
    written, status = b"", 0
    with suppress(OSError):  # how a terminal says that nobody is at the other end any more
        while select.select([leader], [], [], 60)[0] and (part := os.read(leader, 1 << 16)):
            written += part
            if interrupt and re.search(interrupt, ESCAPE.sub("", written.decode(errors="replace"))):
                started.send_signal(signal.SIGINT)
                interrupt, status = "", 130
    os.close(leader)
    assert started.wait(60) == status, written
    return written.decode().replace("\r\n", "\n")


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to, symlinks=True))
