"""What this machine says of its GPUs. What is made of it is decided in `pyexp.devices`."""

import os
import subprocess
from collections.abc import Callable
from typing import Any

from pyexp.devices import AUTO, Seen, in_words, inherited, listed_by_amd, listed_by_nvidia, tokens_within
from pyexp.errors import ExecutorError
from pyexp.executors.base import Executor

#: Seconds that a program has to list the GPUs: with a broken driver it hangs.
PATIENCE = 60.0
#: The programs that list GPUs, in the order in which they are asked, and how they are read.
PROGRAMS: tuple[tuple[tuple[str, ...], Callable[[str], tuple[str, ...]]], ...] = (
    (("nvidia-smi", "-L"), listed_by_nvidia),
    (("rocm-smi", "--showid"), listed_by_amd),
)


def tokens_for(executor: Executor, given: str, jobs: Any = None) -> tuple[tuple[str, ...], str]:
    """The tokens of `gpus`, and a line about them for the user, given the number of cells at a time (`jobs`).

    Raises `ExecutorError` if the executor cannot hand out GPUs or the machine has none, and `UsageError` for GPUs that
    the machine lacks.
    """
    if executor.no_gpus:
        raise ExecutorError(
            f"gpus does not work with {type(executor).__name__}: {executor.no_gpus}; leave it out (--gpus none), or "
            "use executor='subprocess' or 'fork'"
        )
    seen = inherited(os.environ)
    if seen is None and given == AUTO:
        seen = _asked()
    tokens = tokens_within(given, seen)
    if not tokens:
        raise ExecutorError(f"gpus='auto' found no GPU: {seen.source if seen else 'nothing'} leaves none")
    source = f"by {seen.source}" if seen is not None and given == AUTO else "as given"
    return tokens, in_words(tokens, source, jobs if isinstance(jobs, int) else 0)


def _asked() -> Seen:
    """The GPUs that one of the programs lists. Raises `ExecutorError` saying what each said if none does."""
    said = []
    for command, read in PROGRAMS:
        name = command[0]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except FileNotFoundError:
            said.append(f"{name} is not installed")
            continue
        except (OSError, subprocess.SubprocessError) as error:
            said.append(f"{name} failed: {error}")
            continue
        if done.returncode == 0 and (names := read(done.stdout)):
            return Seen(names, name)
        words = " ".join((done.stdout + done.stderr).split())[:200]
        said.append(f"{name} lists none (exit status {done.returncode}: {words!r})")
    raise ExecutorError(f"gpus='auto' found no GPU: {', '.join(said)}; name them, as in gpus='0,1'")
