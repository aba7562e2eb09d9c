"""Where a run comes from: the command as it was typed, the commit of the code, versions, host and times.

Gathers these without ever failing or delaying a run. Takes nothing from the environment. Does not know where they are
written.
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

#: The state of the code until git has answered, and if it does not.
UNKNOWN = {"commit": None, "state": "unknown"}

#: A longer patch, in bytes, is not kept.
LONGEST = 1 << 20
# Bytes of git's output to look at: one change is enough.
_ENOUGH = 1 << 16


def this_command() -> dict[str, Any]:
    """The entry of this process for `run.json`, when it begins a run."""
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
    """The versions of the installed packages that this process has imported and that have a `__version__`."""
    found = {}
    for name, module in list(sys.modules.items()):
        said = getattr(module, "__dict__", {})
        version, file = said.get("__version__"), said.get("__file__")
        if "." not in name and type(version) is str and type(file) is str and "-packages" in file:
            found[name] = version
    return dict(sorted(found.items()))


def code_folder() -> Path:
    """The folder of the script; in a notebook or at a prompt, the working directory."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(main).absolute().parent if main else Path.cwd()


class Git:
    """Asks git for the commit, and whether the code differs from it, while the run goes on.

    Starts nothing outside a work tree or without git.
    """

    def __init__(self, folder: Path) -> None:
        self._asked: subprocess.Popen[bytes] | None = None
        self._changes: subprocess.Popen[bytes] | None = None
        self._answer: dict[str, Any] | None = None
        with suppress(OSError):
            if any((above / ".git").exists() for above in (folder, *folder.parents)):
                self._asked = _git(folder, "status", "--porcelain=v2", "--branch")
                self._changes = _git(folder, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD")

    def answer(self, seconds: float) -> dict[str, Any]:
        """The commit, and the state of the code: `clean`, `dirty` or `unknown`; unknown also if git takes longer."""
        if self._answer is None and self._asked is not None:
            try:
                said = self._asked.communicate(timeout=seconds)[0]
            except subprocess.TimeoutExpired as late:
                said = late.output or b""
            status = said[:_ENOUGH].decode("utf-8", "replace")
            if self._asked.returncode:
                self._answer = UNKNOWN
            elif self._asked.returncode == 0 or changed(status):
                self._answer = state_of(status)
        return self._answer or UNKNOWN

    def patch(self, seconds: float) -> bytes:
        """The changes to tracked files since the commit, as a patch; empty if unknown, or longer than `LONGEST`.

        A changed binary file is only named.
        """
        asked, content = self._changes, b""
        if asked is None or asked.stdout is None or not hasattr(os, "set_blocking"):
            return b""
        os.set_blocking(asked.stdout.fileno(), False)
        last = time.monotonic() + seconds
        while (part := asked.stdout.read(1 << 16)) != b"":
            content += part or b""
            if len(content) > LONGEST or time.monotonic() > last:
                return b""
            if part is None:
                time.sleep(0.01)
        return content if asked.wait() == 0 else b""

    def close(self) -> None:
        """Stop asking."""
        for asked in (self._asked, self._changes):
            if asked is not None:
                with asked as git:
                    git.kill()


def _git(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["git", "-C", str(folder), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        # Keep Ctrl-C from reaching it.
        process_group=0,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def state_of(status: str) -> dict[str, Any]:
    """The commit and the state from the output of `git status --porcelain=v2 --branch`.

    >>> state_of("# branch.oid 1a2b\\n# branch.head main\\n1 .M N... main.py\\n")
    {'commit': '1a2b', 'state': 'dirty'}
    """
    oid = next((line.split()[-1] for line in status.splitlines() if line.startswith("# branch.oid ")), None)
    if oid is None:
        return UNKNOWN
    return {"commit": None if oid == "(initial)" else oid, "state": "dirty" if changed(status) else "clean"}


def changed(status: str) -> bool:
    """Whether the output of git status, which may be incomplete, has a line about a change."""
    return any(not line.startswith("#") for line in status.split("\n")[:-1])
