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


if __name__ == "__main__":
    answer(globals())
