"""Scripts that are run from outside, on the cluster or without one."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: What Ray's processes and the scripts get: nothing is sent anywhere, and no token of the user's is asked for.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


class Script:
    """A script in a folder of its own, and its run in `out/t/run` there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, text: str, name: str = "main.py") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def options(self, environment: dict[str, str]) -> dict[str, Any]:
        return {
            "args": [sys.executable, "main.py"],
            "cwd": self.folder,
            "env": {**os.environ, **ENVIRONMENT, **environment},
            "text": True,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "main.py", "--timestamp", "run", *args]

    def run(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(**{**self.options(environment), "args": self.command(*args)}, timeout=120, check=False)

    def start(self, *args: str, **environment: str) -> subprocess.Popen[str]:
        options = self.options(environment)
        return subprocess.Popen(**{**options, "args": self.command(*args)}, start_new_session=True)

    def out(self, cell: str) -> Path:
        (found,) = self.folder.glob(f"out/t/run/{cell}-*")
        return found

    def record(self, cell: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.out(cell) / "record.json").read_text())
        return told

    def wait_for(self, pattern: str, count: int) -> list[Path]:
        """The files that match, as soon as there are so many."""
        deadline = time.monotonic() + 60
        while len(found := list(self.folder.glob(pattern))) < count:
            assert time.monotonic() < deadline, f"{count} of {pattern} did not come; there is {found}"
            time.sleep(0.05)
        return found
