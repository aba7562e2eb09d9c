"""signac: a project of jobs, each with its state point and document."""

from timing import answer, python, scratch, script, timed


def import_package(count):
    return python("-c", "import signac")


def _fill(project, count):
    for number in range(count):
        job = project.open_job({"i": number})
        job.init()
        job.document["value"] = number


def _read(project, count):
    return [project.open_job({"i": number}).document["value"] for number in range(count)]


SCRIPT = """
import signac
project = signac.init_project({folder!r})
for number in range({count}):
    job = project.open_job({{"i": number}})
    if "value" not in job.document:
        job.init()
        job.document["value"] = number
"""


def whole_script(count):
    with scratch() as folder:
        return script(SCRIPT.format(folder=folder, count=count), folder)


def noop_inline(count):
    import signac

    with scratch() as folder:
        project = signac.init_project(folder)
        return timed(lambda: _fill(project, count)) / count


def all_finished(count):
    import signac

    few = count // 10
    with scratch() as folder:
        project = signac.init_project(folder)
        _fill(project, few)
        return timed(lambda: _read(project, few)) / few


if __name__ == "__main__":
    answer(globals())
