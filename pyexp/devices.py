"""The GPUs that cells share on one machine: tokens, what there is, and which token the next cell gets.

A token names what one cell sees, `0` or `0+1`, and a cell holds it from its start to its end. Knows names of devices
and the variables that hide the others; asks no machine.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pyexp.errors import UsageError

T = TypeVar("T")

#: In the place of a list: every GPU that there is.
AUTO = "auto"
#: In the place of a list: cells hold no GPU, and see what this process sees.
NO_GPUS = "none"
_NUMBER = re.compile("[0-9]+")
# As nvidia-smi -L shows them: GPU-8932f937-…, MIG-41b3…; MIG-GPU-8932…/1/0 in older drivers; AMD's GPU-XX….
_NAME = re.compile("(?:GPU|MIG)-[0-9A-Za-z/-]+", re.I)


def tokens_of(given: Any) -> tuple[str, ...]:
    """The tokens in `"0,0,1,1"`, `"0+1,2+3"`, or a list of such: each names what one cell sees, joined by `+`.

    >>> tokens_of("0, 00,1+2"), tokens_of([0, "1"])
    (('0', '0', '1+2'), ('0', '1'))

    Raises `UsageError` for anything else, and for a GPU that is listed by its number and by its name.
    """
    if isinstance(given, str):
        parts = given.split(",")
    elif isinstance(given, (list, tuple)):
        for item in given:
            if isinstance(item, bool) or not isinstance(item, (int, str)):
                raise UsageError(f"gpus is {given!r}: {item!r} is no GPU; it takes {WANTED}")
        parts = [part for item in given for part in str(item).split(",")]
    else:
        hint = f"; the GPU called {given} is '{given}'" if type(given) is int else ""
        raise UsageError(f"gpus is {given!r}; it takes {WANTED}{hint}")
    tokens = tuple("+".join(_name(name, given) for name in part.split("+")) for part in parts)
    if not tokens:
        raise UsageError(f"gpus is {given!r}, an empty list; it takes {WANTED}")
    for token in tokens:
        if len(set(names_in(token))) < token.count("+") + 1:
            raise UsageError(f"gpus is {given!r}: {token!r} gives one cell a GPU twice")
    names = [name for token in tokens for name in names_in(token)]
    if len({name.isdecimal() for name in names}) > 1:
        raise UsageError(
            f"gpus is {given!r}: some are called by number and some by name, so two of them may be one GPU; "
            "use numbers for all, or names"
        )
    return tokens


WANTED = "'auto', 'none', or GPUs as in '0,1', '0,0,1,1' (two cells on each) or '0+1,2+3' (two for each cell)"


def _name(text: str, given: Any) -> str:
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return str(int(text))
    if _NAME.fullmatch(text):
        return text
    raise UsageError(f"gpus is {given!r}: {text!r} is no GPU; it takes {WANTED}")


def names_in(token: str) -> list[str]:
    """The GPUs that a token names.

    >>> names_in("0+1")
    ['0', '1']
    """
    return token.split("+")


class Seen(NamedTuple):
    """The GPUs that this process may use, and in words what says so."""

    names: tuple[str, ...]
    source: str


def inherited(environ: Mapping[str, str]) -> Seen | None:
    """The GPUs that the environment leaves; None where it hides none.

    CUDA's variable holds for NVIDIA's GPUs and, where it is all there is, for AMD's. ROCR's hides GPUs from HIP, which
    counts those that are left.
    """
    if (told := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return Seen(_listed(told), f"CUDA_VISIBLE_DEVICES={told}")
    below, above = environ.get("ROCR_VISIBLE_DEVICES"), environ.get("HIP_VISIBLE_DEVICES")
    if below is None:
        return None if above is None else Seen(_listed(above), f"HIP_VISIBLE_DEVICES={above}")
    left, source = _listed(below), f"ROCR_VISIBLE_DEVICES={below}"
    if above is None:
        return Seen(left, source)
    called = {name: name for name in left} | {str(position): name for position, name in enumerate(left)}
    chosen = _until_unknown(called.get(name, "") for name in _listed(above))
    return Seen(chosen, f"{source} and HIP_VISIBLE_DEVICES={above}")


def _listed(told: str) -> tuple[str, ...]:
    """The names in a variable, up to the first that names no GPU, as CUDA reads it: `-1` hides all that follow."""
    parts = (part.strip() for part in told.split(","))
    return _until_unknown(
        str(int(part)) if _NUMBER.fullmatch(part) else part if _NAME.fullmatch(part) else "" for part in parts
    )


def _until_unknown(names: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in names:
        if not name:
            break
        found[name] = None
    return tuple(found)


def tokens_within(given: str, seen: Seen | None) -> tuple[str, ...]:
    """The tokens of a list, or for `auto` one for each GPU that was seen.

    Raises `UsageError` for a GPU that was not seen, naming what there is.
    """
    if given == AUTO:
        return seen.names if seen else ()
    tokens = tokens_of(given)
    for name in (name for token in tokens for name in names_in(token)):
        if seen is not None and not any(_is_same(name, other) for other in seen.names):
            there = f"leaves {', '.join(seen.names)}" if seen.names else "leaves no GPU"
            raise UsageError(f"gpus is {given!r}, but there is no GPU {name} here: {seen.source} {there}")
    return tokens


def _is_same(name: str, other: str) -> bool:
    """Whether two names are of one GPU; the name of a GPU may be cut short, a number may not."""
    if name.isdecimal() or other.isdecimal():
        return name == other
    short, long = sorted((name.lower(), other.lower()), key=len)
    return long.startswith(short)


def grant(free: Sequence[str], waiting: Iterable[T], held: Iterable[str] = ()) -> list[tuple[T, str]]:
    """The waiting cells that get a free token now, first come first served, each with its token.

    A cell gets the token whose GPUs are held by the fewest others.

    >>> grant(["0", "0", "1", "1"], "abc")
    [('a', '0'), ('b', '1'), ('c', '0')]
    """
    left = list(free)
    users = Counter(name for token in held for name in names_in(token))
    granted = []
    for one in waiting:
        if not left:
            break
        token = min(left, key=lambda each: max(users[name] for name in names_in(each)))
        left.remove(token)
        users.update(names_in(token))
        granted.append((one, token))
    return granted


def free(tokens: Iterable[str], held: Iterable[str]) -> list[str]:
    """The tokens that nobody holds. What is held is asked of the cells that run, so no token can be lost.

    >>> free(["0", "0", "1"], ["0"])
    ['0', '1']
    """
    return list((Counter(tokens) - Counter(held)).elements())


def environment(token: str) -> dict[str, str]:
    """What a cell's environment has so that it sees the GPUs of its token, and no others.

    ROCR hides GPUs from HIP, which counts those that are left: to HIP they are the first ones.

    >>> environment("2+3")
    {'CUDA_VISIBLE_DEVICES': '2,3', 'ROCR_VISIBLE_DEVICES': '2,3', 'HIP_VISIBLE_DEVICES': '0,1'}
    >>> environment("")
    {}
    """
    if not token:
        return {}
    names = names_in(token)
    listed = ",".join(names)
    positions = ",".join(map(str, range(len(names))))
    return {"CUDA_VISIBLE_DEVICES": listed, "ROCR_VISIBLE_DEVICES": listed, "HIP_VISIBLE_DEVICES": positions}


def listed_by_nvidia(text: str) -> tuple[str, ...]:
    """The GPUs in what `nvidia-smi -L` prints: by number, or by name where a GPU is cut into MIG devices.

    >>> listed_by_nvidia("GPU 0: NVIDIA A100 (UUID: GPU-5d5b)\\nGPU 1: NVIDIA A100 (UUID: GPU-77aa)")
    ('0', '1')
    """
    gpus: list[tuple[str, str, list[str]]] = []
    for line in text.splitlines():
        if found := re.match(r"GPU ([0-9]+):.*\(UUID: (GPU-[^)]+)\)", line):
            gpus.append((found[1], found[2], []))
        elif gpus and (found := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line)):
            gpus[-1][2].append(found[1])
    if not any(parts for _, _, parts in gpus):
        return tuple(number for number, _, _ in gpus)
    return tuple(name for _, whole, parts in gpus for name in parts or [whole])


def listed_by_amd(text: str) -> tuple[str, ...]:
    """The GPUs in what `rocm-smi --showid` prints, as ROCm numbers them.

    >>> listed_by_amd("GPU[0]\\t: Device Name: MI250\\nGPU[0]\\t: GUID: 1\\nGPU[1]\\t: GUID: 2")
    ('0', '1')
    """
    return tuple(map(str, range(len(set(re.findall(r"^GPU\[([0-9]+)\]", text, re.M))))))


def in_words(tokens: Sequence[str], source: str, jobs: int = 0) -> str:
    """What a run says of its GPUs, and that fewer cells run at a time than were asked for.

    >>> in_words(("0", "0", "1+2"), "as given")
    'GPUs as given: 0, 0, 1+2, each for one cell at a time'
    """
    fewer = f", so {len(tokens)} at a time and not {jobs}" if jobs > len(tokens) else ""
    return f"GPUs {source}: {', '.join(tokens)}, each for one cell at a time{fewer}"
