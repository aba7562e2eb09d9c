"""What a cell writes, shown on stderr while it runs (`-s`): read from its log, a piece at a time."""

import codecs
import sys
from contextlib import suppress

from pyexp.executors.base import Task

#: Bytes that are read at a time: a cell that writes faster than it is shown takes no more memory than that.
_PIECE = 1 << 20


class Echo:
    """The end of a cell's log that has not been shown yet."""

    def __init__(self, task: Task) -> None:
        self._path = task.log_path
        self._label = task.label
        self._at = 0
        self._line = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def show(self, *, several: bool, rest: bool = False) -> None:
        """Write what is new to stderr: of several cells' output whole lines, each with its cell.

        With `rest` all of it, also what is no whole line yet; otherwise a piece, and the next one next time.
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
