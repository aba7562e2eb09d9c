"""The modules `os` and `signal` with all that they have on some system, for those who ask with `hasattr` before.

A type checker knows one system at a time, and would refuse what the others have.
"""

import os as _os
import signal as _signal
from typing import Any

os: Any = _os
signal: Any = _signal
