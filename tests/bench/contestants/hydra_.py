"""hydra-core: composing configs, and its basic launcher."""

import os

from timing import answer, python, scratch

SCRIPT = """
import hydra
@hydra.main(version_base=None, config_path=None)
def main(config):
    pass
main()
"""


def import_package(count):
    return python("-c", "import hydra")


def _script(count):
    with scratch() as folder:
        with open(os.path.join(folder, "main.py"), "w") as file:
            file.write(SCRIPT)
        values = ",".join(str(i) for i in range(count))
        return python("main.py", "-m", f"+i={values}", folder=folder)


def noop_inline(count):
    few = max(count // 10, 10)
    return (_script(few) - _script(1)) / (few - 1)


if __name__ == "__main__":
    answer(globals())
