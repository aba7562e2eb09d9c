"""SHA-256, by the quickest means at hand: the value is the same by all of them."""

import sys
from importlib import import_module
from importlib.util import find_spec

# Without OpenSSL, whose import takes longer than that of all pyexp.
_sha = import_module(next(name for name in ("_sha2", "_sha256", "hashlib") if find_spec(name)))


def sha256(data: bytes) -> str:
    """The digest in hexadecimal digits."""
    # OpenSSL's is three times as fast, if something else has imported it.
    return (sys.modules.get("hashlib") or _sha).sha256(data).hexdigest()  # type: ignore[no-any-return]
