"""The marks of cells, in the store that the head of a Ray cluster keeps: where each of them has begun.

A mark is written once, by the first of two: the node, before the cell begins, or the run, when it has given up waiting
for a node that may be lost, and hands the cell to another. So no cell runs on two nodes, whatever the network does.
The store's name is not a public name of Ray's: see docs/decisions/030-ray.md.
"""

from collections.abc import Mapping

#: What the run writes in place of a node: the cell will not begin under this mark.
NOWHERE = "nowhere"
_NAMESPACE = "pyexp"


def write(mark: str, node: str) -> str:
    """Mark a cell as begun on the node, and return which node's it is: another's if that came first.

    Raises what Ray raises, in particular where the head does not answer.
    """
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    if not _internal_kv_put(mark, node, overwrite=False, namespace=_NAMESPACE):
        return node
    found = _internal_kv_get(mark, namespace=_NAMESPACE)
    return node if found is None else found.decode()


def read(prefix: str, known: Mapping[str, str]) -> dict[str, str]:
    """The node of each mark with this prefix; what is known does not change, and is not asked for again.

    Raises what Ray raises.
    """
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list

    found: dict[str, str] = {}
    for key in _internal_kv_list(prefix, namespace=_NAMESPACE):
        mark = key.decode()
        node = known.get(mark) or (_internal_kv_get(key, namespace=_NAMESPACE) or b"").decode()
        found |= {mark: node} if node else {}
    return found


def ask() -> None:
    """Nothing, if the head answers. Raises what Ray raises, or takes as long as Ray does, if it does not."""
    from ray.experimental.internal_kv import _internal_kv_exists

    _internal_kv_exists("", namespace=_NAMESPACE)


def remove(mark: str) -> None:
    """Forget the mark. Raises what Ray raises."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(mark, namespace=_NAMESPACE)
