"""How long GPUs idle while cells wait for one: 20 cells of mixed length on two stand-ins for a GPU."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

SCRIPT = """
import os, time
import pyexp

@pyexp.experiment(name="e", durable=False)
def experiment(config):
    began = time.time()
    time.sleep(config.seconds)
    return {"gpu": os.environ["CUDA_VISIBLE_DEVICES"], "began": began, "ended": time.time()}

if __name__ == "__main__":
    lengths = [0.2, 3.2, 0.4, 0.8, 0.2, 1.6, 0.2, 0.6, 2.4, 0.4]
    results = experiment.run(configs=[{"name": f"c{i}", "seconds": lengths[i % 10]} for i in range(20)],
                             report=lambda results: results)
    import json
    print(json.dumps([dict(result.value) for result in results]))
"""


@pytest.mark.bench
def test_two_gpus_idle_for_less_than_a_twentieth_while_cells_wait(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SCRIPT)
    command = [sys.executable, "main.py", "--gpus", "0,1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    stays = json.loads(done.stdout)
    busy = idle = 0.0
    # Once the last cell has begun there is nothing for the other GPU to do.
    last = max(stay["began"] for stay in stays)
    first = min(stay["began"] for stay in stays)
    for gpu in ("0", "1"):
        mine = sorted((stay["began"], stay["ended"]) for stay in stays if stay["gpu"] == gpu)
        assert all(ended <= began for (_, ended), (began, _) in pairwise(mine))
        busy += sum(min(ended, last) - min(began, last) for began, ended in mine)
        idle += last - first
    idle -= busy
    print(f"idle {idle / (idle + busy):.1%}")
    assert idle / (idle + busy) < 0.05
