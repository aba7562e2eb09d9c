"""signac: a project of jobs, each with its state point and document."""

from timing import answer, python, scratch, script, synced, timed


def import_package(count):
    return python("-c", "import signac")


def _fill(project, count):
    for number in range(count):
        job = project.open_job({"i": number})
        job.init()
        job.document["value"] = number


def _fill_synced(project, count):
    for number in range(count):
        job = project.open_job({"i": number})
        job.init()
        job.document["value"] = number
        synced(job.fn(job.FN_STATE_POINT), job.fn(job.FN_DOCUMENT), job.path, project.workspace)


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


def noop_inline_durable(count):
    """signac syncs nothing: here each job's two files are synced, its folder, and the one above."""
    import signac

    with scratch() as folder:
        project = signac.init_project(folder)
        return timed(lambda: _fill_synced(project, count)) / count


def all_finished(count):
    import signac

    few = count // 10
    with scratch() as folder:
        project = signac.init_project(folder)
        _fill(project, few)
        return timed(lambda: _read(project, few)) / few


def plan_new(count):
    """Each state point is hashed and its job looked for in an empty project; there are no names, no plan as a value."""
    import signac

    base = {"name": "e", **{f"b{i}": i for i in range(20)}}
    with scratch() as folder:
        project = signac.init_project(folder)
        return timed(lambda: [project.open_job({**base, "k": i}) in project for i in range(count)])


if __name__ == "__main__":
    answer(globals())
