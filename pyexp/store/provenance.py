"""Where a run comes from: the command as it was typed, the commit of the code, versions, host and times.

Knows how to ask for these without ever failing or delaying a run; not where they are written down. Of the environment
nothing is taken.
"""

import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyexp import __version__

#: What is said of the code until git has answered, and where it does not.
UNKNOWN = {"commit": None, "state": "unknown"}

# Seconds after which what git has said so far is looked at, and how many bytes of it: of changes, one is enough.
_SLICE, _ENOUGH = 0.05, 1 << 16


def this_command() -> dict[str, Any]:
    """What is known of this process when it begins a run."""
    return {
        "command": shlex.join(sys.orig_argv),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "python": platform.python_version(),
        "pyexp": __version__,
        "started": time.time(),
        "ended": None,
        "git": UNKNOWN,
    }


def libraries() -> dict[str, str]:
    """The versions of the installed packages that this process has imported, as far as they say one themselves."""
    found = {}
    for name, module in list(sys.modules.items()):
        said = getattr(module, "__dict__", {})
        version, file = said.get("__version__"), said.get("__file__")
        if "." not in name and type(version) is str and type(file) is str and "-packages" in file:
            found[name] = version
    return dict(sorted(found.items()))


def code_folder() -> Path:
    """The folder of the script, or else (a notebook, a prompt) the working directory."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(main).absolute().parent if main else Path.cwd()


class Git:
    """Git, asked for the commit and whether the code differs from it; it answers while the run goes on.

    Where no folder upward is a work tree, or there is no git, nothing is started.
    """

    def __init__(self, folder: Path) -> None:
        self._asked: subprocess.Popen[bytes] | None = None
        self._told: dict[str, Any] | None = None
        with suppress(OSError):
            if any((above / ".git").exists() for above in (folder, *folder.parents)):
                self._asked = subprocess.Popen(
                    ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
                    # Ctrl-C is not meant for it.
                    process_group=0,
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The commit, and whether the code is `clean`, `dirty` or `unknown`; None if git needs longer."""
        last = time.monotonic() + seconds
        while self._told is None and self._asked is not None:
            left = last - time.monotonic()
            try:
                said = self._asked.communicate(timeout=min(max(left, 0), _SLICE))[0]
            except subprocess.TimeoutExpired as late:
                said = late.output or b""
            status = said[:_ENOUGH].decode("utf-8", "replace")
            if self._asked.returncode is not None:
                self._told = state_of(status) if self._asked.returncode == 0 else UNKNOWN
            elif changed(status):
                self._told = state_of(status)
            elif left <= 0:
                return None
        return self._told or UNKNOWN

    def close(self) -> None:
        """Ask no more."""
        if self._asked is not None:
            with self._asked as git:
                git.kill()


def state_of(status: str) -> dict[str, Any]:
    """The commit and the state that `git status --porcelain=v2 --branch` tells.

    >>> state_of("# branch.oid 1a2b\\n# branch.head main\\n1 .M N... main.py\\n")
    {'commit': '1a2b', 'state': 'dirty'}
    """
    oid = next((line.split()[-1] for line in status.splitlines() if line.startswith("# branch.oid ")), None)
    if oid is None:
        return UNKNOWN
    return {"commit": None if oid == "(initial)" else oid, "state": "dirty" if changed(status) else "clean"}


def changed(status: str) -> bool:
    """Whether the status, which may break off, has a line that tells of a change."""
    return any(not line.startswith("#") for line in status.split("\n")[:-1])
