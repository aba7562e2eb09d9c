"""The child's side of a cell: what a fresh interpreter or a fork does, from its payload to its last word.

The last word is an outcome on the status pipe; the parent believes nothing else. It imports as little as it can,
because every cell pays for it.
"""

from __future__ import annotations

import _socket  # the module `socket` costs more
import atexit
import faulthandler
import marshal
import os
import pathlib  # here, where modules beside the script cannot hide it
import sys
import time

from pyexp import files
from pyexp.outcome import Outcome, attempt, failure

try:
    import _signal  # type: ignore[import-not-found]  # the module `signal` costs more
    import resource
except ImportError:  # Windows, where no worker is
    pass

TYPE_CHECKING = False  # not from typing, which costs a worker more than all that it needs
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Bytes of the number that says how long a part of a message is.
WIDTH = 8
#: Exit statuses of a worker that could not say its word: its pipe was closed, or it was never told what to do.
MUTE, UNTOLD = 86, 87
#: In the place of an exit status that nobody knows.
UNKNOWN = 1 << 16
#: The last message, after the outcome: that this process never had a child, or that it may have some left.
ALONE, PARENT = b"alone", b"parent"
#: Whether this process is a cell's.
in_cell = False
# So many objects are looked at to find the script's own functions.
_NEAR = 2000
# So much is read at a time.
_PIECE = 1 << 24
#: Seconds that a worker with children waits to be ended with them, while it can be seen whose they are.
_WAIT = 2.0


def main(shared: int) -> None:
    """Load the function, wait for the one cell that is to be run, run it, and never return.

    Descriptor 0 is the socket that the cell comes through, 1 the status pipe, and 2 takes what is written before there
    is a log. `shared` has what all cells have in common: the function, and the world it expects.
    """
    control, status = out_of_the_way(0), out_of_the_way(1)
    os.dup2(2, 1)
    try:
        header, fn = unpacked(_whole(shared), whole=True)
        terms = marshal.loads(header)
    except (EOFError, ValueError, TypeError):  # the parent died before it had said everything
        os._exit(UNTOLD)
    os.close(shared)
    sys.path[:] = terms.get("path", sys.path)
    sys.argv[:] = terms["argv"]
    if terms["main"]:  # so that the names of the script's own classes and functions are resolved as in the parent
        sys.modules["__main__"].__file__ = terms["main"]
    fresh_streams()
    call = _loaded(fn)
    _publish(call)
    import pyexp.dotted  # noqa: F401  # what a config is of: while there is time

    place, pickled = _cell(control)
    result_path = os.fsdecode(place)

    def run() -> Any:
        config = files.loads(pickled)
        config["out"] = pathlib.Path(result_path).parent
        return call(config)

    live(run, result_path, terms["durable"], status)


def _loaded(fn: bytes) -> Callable[[Any], Any]:
    """The function; if it cannot be loaded, one that raises why, so that this is the outcome of the cell."""
    try:
        loaded: Callable[[Any], Any] = files.loads(fn)
    except BaseException as error:  # an import runs code that may raise anything
        why = error

        def loaded(_config: Any) -> Any:
            raise why

    return loaded


def _publish(call: Any) -> None:
    """Put the script's names that came with its function where others look for them: into `__main__`.

    So a cell can pickle them by name, as multiprocessing does. A child of this process, forked or spawned, finds them.
    """
    names = _names_of_script(call)
    main = vars(sys.modules["__main__"])
    names.setdefault("__builtins__", main["__builtins__"])  # debuggers ask for it
    main.update({name: value for name, value in names.items() if not name.startswith("__")})


def _names_of_script(call: Any) -> dict[str, Any]:
    """The namespace of the script's functions, found through what the call is made of: a partial, an object, a closure.

    All functions that came together share one.
    """
    import gc

    kind = type(_publish)
    seen = set()
    near = [call]
    for each in near:
        if type(each) is kind and each.__globals__.get("__name__") == "__main__":
            return each.__globals__
        if id(each) not in seen and len(near) < _NEAR:
            seen.add(id(each))
            near += (each.__closure__ or ()) if type(each) is kind else gc.get_referents(each)
    return {}


def _cell(control: int) -> list[bytes]:
    """The cell, once it comes; what this process writes goes to its log from then on. Without one, the process ends."""
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, control)
    part, sent, _, _ = link.recvmsg(_PIECE, 64)
    parts = []
    while part:
        parts.append(part)
        part = link.recv(_PIECE)
    link.close()
    try:
        cell = unpacked(b"".join(parts), whole=True)
        descriptors = sent[0][2]
    except (EOFError, IndexError):  # the parent has no cell for this process, or is dead
        os._exit(UNTOLD)
    log, *claim = [int.from_bytes(descriptors[at : at + 4], sys.byteorder) for at in range(0, len(descriptors), 4)]
    for descriptor in claim:  # held until this process ends
        out_of_the_way(descriptor)
        os.close(descriptor)
    try:
        write_all(log, os.pread(2, os.fstat(2).st_size, 0))
        os.ftruncate(2, 0)  # what is left there, the parent takes for what was written before there was a log
    except OSError:  # a full disk is a matter of the result, which comes later
        pass
    write_to(log)
    return cell


def write_to(log: int) -> None:
    """From now on, what this process writes goes to this descriptor, which is closed."""
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def live(call: Callable[[], Any], result_path: str, durable: bool, status: int, *, forked: bool = False) -> None:
    """Make the call, commit its result, say the outcome on the status pipe, and end this process."""
    global in_cell
    in_cell = True
    word = _LastWord(status)
    if forked:  # handlers run from the last to the first: here it ends before the parent's, which are not its to free
        atexit.register(word.leave)
    handlers = atexit._ncallbacks() if forked else 0
    cell = os.getpid()
    outcome = attempt(call, lambda value: commit(value, result_path, durable, cell))
    leave_if_forked(outcome, cell)
    if outcome["status"] != "done":
        try:  # a failure leaves no result, whoever wrote one
            os.unlink(result_path)
        except OSError:
            pass
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:  # the experiment may have closed it, or put anything in its place
            stream.flush()  # type: ignore[union-attr]
        except BaseException:
            pass
    if atexit._ncallbacks() == handlers and is_alone():
        word.leave(_marshalled(outcome), ALONE)
    word.say(_marshalled(outcome))
    try:  # what the experiment has left for the end, such as a logger that uploads
        atexit._run_exitfuncs()
    except BaseException:
        pass
    word.leave()


def commit(value: Any, result_path: str, durable: bool, cell: int) -> list[str]:
    """Commit the result, if this is the cell's process; return what loading it needs. Raises what `files.save` does."""
    return files.save(result_path, value, durable=durable) if os.getpid() == cell else []


def leave_if_forked(outcome: Outcome, cell: int) -> None:
    """End this process if it is not the cell's, but one that the experiment has forked and let come out of it.

    How the cell ends, its own process says.
    """
    if os.getpid() == cell:
        return
    status = 0 if outcome["status"] == "done" else 1
    try:
        if outcome.get("type") == "SystemExit":
            status = int(outcome["message"].replace("None", "") or 0)
        else:
            sys.stderr.write(outcome.get("traceback", ""))
            sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


class _LastWord:
    """What is said on the status pipe before this process ends, whatever the experiment has done to its descriptor."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._pipe = os.fstat(status)
        self._heard = True

    def say(self, *messages: bytes) -> None:
        self._heard = tell(self._status, self._pipe, *messages) and self._heard

    def leave(self, *messages: bytes) -> None:
        """Say this, or whether children are left, and end."""
        if messages:
            self.say(*messages)
        elif is_alone():
            self.say(ALONE)
        else:
            tell(self._status, self._pipe, PARENT)
            time.sleep(_WAIT)
        # Not by the usual way out: that would wait for the experiment's threads, and in a fork run the parent's code.
        os._exit(0 if self._heard else MUTE)


def is_alone() -> bool:
    """Whether this process has no child, and never waited for one: then nothing can descend from it.

    Where that cannot be known, it is not alone.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        unseen = _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN  # the system takes children away by itself
        return not unseen and resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss == 0
    except BaseException:  # no such module or call here
        pass
    return False


def _marshalled(outcome: Outcome) -> bytes:
    try:
        return marshal.dumps(outcome)
    except ValueError:  # an integer or string of a kind that marshal does not know
        return marshal.dumps(failure("TypeError", "the outcome could not be written to the status pipe"))


def tell(status: int, pipe: os.stat_result, *messages: bytes) -> bool:
    """Write messages to the status pipe, which was `pipe` when the experiment began; whether that could be done."""
    try:
        if not _is_open(status, pipe):
            status = _opened_anew(pipe)
        write_all(status, packed(*messages))
    except OSError:
        return False
    return True


def _is_open(descriptor: int, pipe: os.stat_result) -> bool:
    """Whether the descriptor still is the pipe: an experiment may close what it does not know, and open files since."""
    try:
        return os.path.samestat(os.fstat(descriptor), pipe)
    except OSError:
        return False


def _opened_anew(pipe: os.stat_result) -> int:
    """The pipe by way of the parent, which holds its other end (Linux). Raises OSError."""
    descriptors = f"/proc/{os.getppid()}/fd"
    for name in os.listdir(descriptors):
        path = os.path.join(descriptors, name)
        try:
            if os.path.samestat(os.stat(path), pipe):
                return os.open(path, os.O_WRONLY)
        except OSError:
            pass
    raise OSError("the status pipe is gone")


def packed(*parts: bytes) -> bytes:
    """The parts as one message, each with its length before it."""
    return b"".join(len(part).to_bytes(WIDTH, "big") + part for part in parts)


def unpacked(message: bytes, whole: bool = False) -> list[bytes]:
    """The parts of a message, as far as they are complete. Raises EOFError if it is to be `whole` and breaks off."""
    parts = []
    at = 0
    while at < len(message):
        size = int.from_bytes(message[at : at + WIDTH], "big")
        if at + WIDTH + size > len(message):
            if whole:
                raise EOFError("the message breaks off")
            break
        parts.append(message[at + WIDTH : at + WIDTH + size])
        at += WIDTH + size
    return parts


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def unbuffered(descriptor: int) -> Any:
    """A text stream that writes at once, whatever the text, to a descriptor that it does not close."""
    from io import FileIO, TextIOWrapper

    raw: Any = FileIO(descriptor, "w", closefd=False)
    return TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def _whole(descriptor: int) -> bytes:
    """All that is in a file which others read too: the place that they have come to is theirs as well."""
    parts = []
    at = 0
    while part := os.pread(descriptor, _PIECE, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def out_of_the_way(descriptor: int) -> int:
    """The pipe under a high number, which an experiment that opens and closes descriptors does not meet by chance."""
    try:
        from fcntl import F_DUPFD_CLOEXEC, fcntl

        return fcntl(descriptor, F_DUPFD_CLOEXEC, 500)
    except (ImportError, OSError):  # not on this system, or no number that high
        return os.dup(descriptor)


def streams() -> tuple[Any, Any, Any]:
    """Streams for descriptors 0, 1 and 2, whatever these are by the time that they are used."""
    return open(0, encoding="utf-8", closefd=False), unbuffered(1), unbuffered(2)


def fresh_streams(made: tuple[Any, Any, Any] | None = None) -> None:
    """Give this process an empty stdin, and a stdout and stderr that write to descriptors 1 and 2 at once."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin, sys.stdout, sys.stderr = made or streams()
    faulthandler.enable(2)  # a crash leaves its Python traceback in the log


def function(code: bytes, namespace: dict[str, Any], defaults: Any, about: tuple[Any, ...], own: dict[str, Any]) -> Any:
    """The function that `functions` took apart."""
    kind: Any = type(function)  # the module `types`, which has a name for it, costs more
    made = kind(marshal.loads(code), namespace, about[0], defaults)
    made.__qualname__, made.__module__, made.__doc__, made.__annotations__, made.__kwdefaults__ = about[1:]
    made.__dict__.update(own)
    return made


def module_with(name: str, submodules: list[str]) -> Any:
    """The module of that name, once these submodules of it are imported too."""
    for each in (name, *submodules):
        __import__(each)
    return sys.modules[name]
