"""A script with a sweep, run by the real interpreter, and witnesses beside it of what it did."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

SCRIPT = """
import fcntl, os, sys, time
import pyexp

HERE = os.path.dirname(os.path.abspath(__file__))

def tell(*words):
    witness = os.open(os.path.join(HERE, "witness"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(witness, (" ".join(map(str, words)) + "\\n").encode())
    os.close(witness)

@pyexp.experiment(name="e")
def experiment(config):
    # The kernel frees this lock when the process is gone: who cannot have it runs beside another.
    lock = os.open(os.path.join(HERE, "locks", config.name), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell("beside", config.name)
    tell("began", config.name)
    print("working on", config.name)
    (config.out / "artifact.txt").write_text(config.name)
    time.sleep(config.seconds)
    os.close(lock)
    return {"x": config.x, "list": [config.x] * 5000}

@experiment.configs
def configs():
    count, seconds = int(os.environ["CELLS"]), float(os.environ["SECONDS"])
    return [{"name": f"c{i}", "x": i, "seconds": seconds} for i in range(count)]

@experiment.report
def report(results):
    for result in results:
        print(result.name, result.get("x"), sum(result["list"]) if not result.get("__error__") else result["type"])

if __name__ == "__main__":
    experiment.run()
"""


class Sweep:
    """The script in a folder, for so many cells that take so many seconds each."""

    def __init__(self, place: Path, cells: int, seconds: float) -> None:
        self.place = place
        self.cells = cells
        place.mkdir(exist_ok=True)
        (place / "locks").mkdir()
        (place / "script.py").write_text(SCRIPT)
        self.environment = {**os.environ, "CELLS": str(cells), "SECONDS": str(seconds)}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "script.py", *arguments],
            cwd=self.place,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    @property
    def report(self) -> str:
        """What the script prints when every cell is finished."""
        return "".join(f"c{i} {i} {i * 5000}\n" for i in range(self.cells))

    def told(self, word: str) -> list[str]:
        """The cells of which the witness has this word, once for each time."""
        witness = self.place / "witness"
        lines = witness.read_text().splitlines() if witness.exists() else []
        return [line.split()[1] for line in lines if line.startswith(word)]

    @property
    def folder(self) -> Path:
        return self.place / "out" / "e"

    def finished(self) -> set[str]:
        """The cells with a record that says so."""
        found = set()
        for path in self.folder.glob("*/*/record.json"):
            record = json.loads(path.read_text())
            if record["status"] == "done" and (path.parent / "result.pkl").exists():
                found.add(record["name"])
        return found

    def left_over(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.name == ".claims" or path.name.endswith(".pyexp-tmp")]


def processes_of(place: Path) -> dict[int, int]:
    """The living processes whose working directory is `place`, each with its parent."""
    found = {}
    for entry in os.listdir("/proc"):
        try:
            if entry.isdecimal() and os.readlink(f"/proc/{entry}/cwd") == str(place):
                status = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                found[int(entry)] = int(status[1])
        except OSError:
            continue
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def ended(process: "subprocess.Popen[str]", seconds: float = 120) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a process that must come to its end."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err
