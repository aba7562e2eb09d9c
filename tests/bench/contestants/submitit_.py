"""submitit's local executor: a fresh interpreter for each cell."""

from timing import answer, python, scratch, timed


def import_package(count):
    return python("-c", "import submitit")


def cell(number):
    return {"value": number}


def noop_fresh(count):
    import submitit

    few = max(count // 8, 3)
    with scratch() as folder:
        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(timeout_min=1)
        return timed(lambda: [executor.submit(cell, number).result() for number in range(few)]) / few


if __name__ == "__main__":
    answer(globals())
