"""exca: a cached task for each config, and a cached map over many."""

import typing as tp

import exca
import pydantic
from timing import answer, python, scratch, timed


class Cell(pydantic.BaseModel):
    i: int = 0
    infra: exca.TaskInfra = exca.TaskInfra(version="1")

    @infra.apply
    def value(self) -> dict[str, int]:
        return {"value": self.i}


class Cells(pydantic.BaseModel):
    infra: exca.MapInfra = exca.MapInfra(version="1")

    @infra.apply(item_uid=str)
    def values(self, numbers: tp.Iterable[int]) -> tp.Iterator[dict[str, int]]:
        for number in numbers:
            yield {"value": number}


def import_package(count):
    return python("-c", "import exca")


def noop_inline(count):
    with scratch() as folder:
        return timed(lambda: [Cell(i=i, infra={"folder": folder}).value() for i in range(count)]) / count


def all_finished(count):
    with scratch() as folder:
        list(Cells(infra={"folder": folder}).values(range(count)))
        return timed(lambda: list(Cells(infra={"folder": folder}).values(range(count)))) / count


def plan_new(count):
    """Each config is validated, hashed and its task looked for; there are no names, no plan as a value."""
    base = {"name": "e", **{f"b{i}": i for i in range(20)}}
    kinds = {key: (type(value), ...) for key, value in base.items()}
    wide = pydantic.create_model("Wide", __base__=Cell, **kinds)
    few = count // 10  # all of 10^5 take over a minute; what each takes does not depend on how many there are
    with scratch() as folder:
        one = timed(lambda: [wide(**base, i=i, infra={"folder": folder}).infra.status() for i in range(few)]) / few
    return one * count


if __name__ == "__main__":
    answer(globals())
