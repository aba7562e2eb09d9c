"""An executor for cells on other machines, or in a container: each runs through a command that runs a command.

    executor = Through([["ssh", "-o", "BatchMode=yes", "workstation1"], ["ssh", "-o", "BatchMode=yes", "workstation2"]])
    executor = Through([["docker", "run", "--rm", "-i", "-v", "/shared:/shared", "our/image"]] * 4)
    executor = Through([["systemd-run", "--user", "--scope", "-q", "-p", "MemoryMax=8G"]] * 2)

All places have to see this file and the output folder under the same paths, and have the same Python and pyexp.
"""

import pickle
import queue
import shlex
import subprocess
import sys

import pyexp


class Through(pyexp.Executor):
    """Runs each cell through one of the commands in `places`. A place has one cell at a time."""

    def __init__(self, places, python=sys.executable, timeout=None):
        self.free = queue.SimpleQueue()
        for place in places:
            self.free.put(place)
        self.python = python
        self.timeout = timeout

    def run(self, fn, config, result_path):
        """Carry pyexp's own attempt at the cell to a free place. Return how it ended there."""
        attempt = pickle.dumps(pyexp.attempt(fn, config, result_path, timeout=self.timeout))
        place = self.free.get()
        try:
            done = subprocess.run([*place, self.python, __file__], input=attempt, capture_output=True, check=False)
        finally:
            self.free.put(place)
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip()
            raise ConnectionError(f"{shlex.join(place)} ended with status {done.returncode}: {words}")
        return pickle.loads(done.stdout)


if __name__ == "__main__":  # in the other place
    attempt = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps(attempt()))
