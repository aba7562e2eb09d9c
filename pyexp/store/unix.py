"""Names that only some systems have: `os` and `signal` (check with `hasattr` first), and modules that may be None.

A type checker knows one system at a time, and would refuse the names of the others.
"""

import os as _os
import signal as _signal
from contextlib import suppress
from importlib import import_module
from typing import Any

os: Any = _os
signal: Any = _signal
fcntl: Any = None
resource: Any = None
msvcrt: Any = None
with suppress(ImportError):
    fcntl, resource = import_module("fcntl"), import_module("resource")
with suppress(ImportError):
    msvcrt = import_module("msvcrt")
