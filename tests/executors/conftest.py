"""Scripts that are run from outside, by the real interpreter, and the processes they leave."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Script:
    """A script in a folder of its own, which runs cells into `out` there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen] = []

    def write(self, text: str, name: str = "main.py") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def command(self, *args: str, flags: tuple[str, ...] = (), main: tuple[str, ...] = ("main.py",)) -> list[str]:
        return [sys.executable, *flags, *main, "--timestamp", "run", "--no-durable", *args]

    def run(self, *args: str, flags: tuple[str, ...] = (), main: tuple[str, ...] = ("main.py",), **options):
        """Run it to its end: exit status, stdout and stderr, in the environment of a user."""
        options = {"capture_output": True, "text": True, "timeout": 120, "cwd": self.folder, **options}
        return subprocess.run(self.command(*args, flags=flags, main=main), check=False, **options)

    def start(self, *args: str, **options) -> subprocess.Popen:
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": self.folder, **options}
        run = subprocess.Popen(self.command(*args), text=True, start_new_session=True, **options)
        self._started.append(run)
        return run

    def end(self) -> None:
        """Kill what a test has started and not waited for, so that its failure is not the next test's too."""
        for run in self._started:
            if run.returncode is None:
                run.kill()
                run.communicate(timeout=60)

    def wait_for(self, pattern: str, count: int = 1) -> list[Path]:
        """The files that match, as soon as there are so many, and each holds something."""
        found: list[Path] = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = [path for path in self.folder.glob(pattern) if path.stat().st_size]
            if len(found) >= count:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{count} of {pattern} did not come; there is {found}")

    def results(self) -> list[str]:
        return sorted(path.parent.name.rpartition("-")[0] for path in self.folder.glob("out/*/run/*/result.pkl"))

    def record(self, name: str) -> dict:
        import json

        (path,) = self.folder.glob(f"out/*/run/{name}-*/record.json")
        return json.loads(path.read_text())


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path)
    yield script
    script.end()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.fixture
def gone() -> Callable[..., None]:
    """A check that the processes whose ids the files hold end within moments."""

    def check(*notes: Path) -> None:
        assert notes
        left = {note: int(note.read_text()) for note in notes}
        deadline = time.monotonic() + 15
        while any(alive(pid) for pid in left.values()) and time.monotonic() < deadline:
            time.sleep(0.02)
        left = {note: pid for note, pid in left.items() if alive(pid)}
        for pid in left.values():
            os.kill(pid, 9)
        assert not left, f"still alive: {left}"

    return check


#: The ways to run a cell in a process of its own, as a script writes them down.
EXECUTORS = {
    "server": "pyexp.SubprocessExecutor()",
    "fresh": "pyexp.SubprocessExecutor(fresh=True)",
    "fork": "pyexp.ForkExecutor()",
}

_SCRIPT = """
import os, sys
import pyexp
TOP

@pyexp.experiment(name="e", executor=EXECUTOR)
def experiment(config):
    BODY

def report(results):
    print(*[result.get("message") or result.value for result in results], sep=chr(10))

if __name__ == "__main__":
    GUARDED
    experiment.run(configs=[{"name": "a"}, {"name": "b"}], report=report)
"""


def of_two_cells(executor: str, body: str, *, top: str = "", guarded: str = "pass", text: str = _SCRIPT) -> str:
    """A script with two cells, `a` and `b`, of a function with this body; it prints their values, or their errors."""
    for name, lines in {"TOP": top, "BODY": body, "GUARDED": guarded}.items():
        indent = "" if name == "TOP" else "    "
        text = text.replace(indent + name, textwrap.indent(textwrap.dedent(lines).strip("\n"), indent))
    return text.replace("EXECUTOR", EXECUTORS[executor])
