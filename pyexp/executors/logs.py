"""A cell's log as the run reads it: its end, for a failure, and what is new in it, to be shown while the cell runs."""

import codecs
import os
import sys
from contextlib import suppress

from pyexp.executors.base import Task
from pyexp.results import LOG_ENDS

#: Bytes that are read at a time: a cell that writes faster than it is shown takes no more memory than that.
_PIECE = 1 << 20


#: Bytes of the end of a log in the record of a cell that died: a crash leaves a long traceback.
LOG_TAIL = 16_000


def log_tail(path: str) -> str:
    """The end of a log, with a line that says what it is."""
    try:
        with open(path, "rb") as log:
            log.seek(max(os.path.getsize(path) - LOG_TAIL, 0))
            text = log.read(LOG_TAIL).decode("utf-8", "replace")
    except OSError:
        return ""
    return f"{LOG_ENDS}\n{text}" if text.strip() else ""


class Echo:
    """Shows a cell's log on stderr while it runs (`-s`)."""

    def __init__(self, task: Task) -> None:
        self._path = task.log_path
        self._label = task.label
        self._at = 0
        self._line = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def show(self, *, several: bool, rest: bool = False) -> None:
        """Write what is new to stderr; where several cells run, in whole lines, each with its cell's name.

        Shows a piece at a time, and with `rest` all that is left, the last line even if it is not whole.
        """
        with suppress(OSError, ValueError), open(self._path, "rb") as log:
            log.seek(self._at)
            while piece := log.read(_PIECE):
                self._at += len(piece)
                self._write(self._decode(piece), several)
                if not rest:
                    return
            if rest:
                self._write(self._decode(b"", final=True) + ("\n" if self._line else ""), several)

    def _write(self, text: str, several: bool) -> None:
        if several:
            *lines, self._line = (self._line + text).split("\n")
            text = "".join(f"[{self._label}] {line}\n" for line in lines)
        if text:
            sys.stderr.write(text)
            sys.stderr.flush()
