"""Scripts as users write them, run by the real interpreter in a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

#: Six cells: those with lr 1.0 fail until `fixed` is True; each waits for `wait` seconds, and says that it ran.
SCRIPT = """
import time
import pyexp
from pyexp import sweep, replicate

@pyexp.experiment(name="mnist", durable=False)
def experiment(config):
    with open("ran.txt", "a") as ran:
        ran.write(config.name + chr(10))
    print("hello from", config.name)
    time.sleep(config.wait)
    if config.lr == 1.0 and not config.fixed:
        raise ValueError("diverged")
    return {"accuracy": 1 - config.lr / 10, "weights": [config.seed]}

@experiment.configs
def configs():
    lrs = [{"name": f"lr{lr}", "lr": lr} for lr in (0.1, 1.0)]
    return replicate(sweep([{"name": "exp", "wait": 0.0, "fixed": False, "mlp": {"width": 8}}], lrs), 3, seed=0)

if __name__ == "__main__":
    experiment.run()
"""


def environment(**changes: str) -> dict[str, str]:
    """This process's environment as an ordinary user's terminal has it, with changes."""
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "NO_COLOR", "TERM", "COLUMNS")}
    return {**kept, **changes}


def write(folder: Path, text: str = SCRIPT) -> None:
    (folder / "main.py").write_text(text)


def go(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`python main.py …` in the folder, with what it printed and its exit status."""
    command = [sys.executable, "main.py", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=120, check=False
    )


def ran(folder: Path) -> list[str]:
    """The names of the cells that have run since this was last asked, in their order."""
    witness = folder / "ran.txt"
    names = witness.read_text().split() if witness.exists() else []
    witness.unlink(missing_ok=True)
    return names
