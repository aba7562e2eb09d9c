"""Cells that hold a GPU each: a script prints what it sees, with stand-ins for the programs that list GPUs."""

import json
import os
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import EXECUTORS, Script

#: Twenty cells of mixed length. Each tells what it sees, and when it began and ended; some fail, die or hang.
_SCRIPT = """
import json, os, time
import pyexp
TOP

@pyexp.experiment(name="e", executor=EXECUTOR)
def experiment(config):
    began = time.time()
    tried = (config.out / "tried").exists()
    (config.out / "tried").touch()
    told = {name: os.environ.get(name + "_VISIBLE_DEVICES") for name in ("CUDA", "HIP", "ROCR")}
    try:
        time.sleep(config.seconds)
    finally:
        with open(config.out / "told.json", "a") as file:
            file.write(json.dumps({**told, "began": began, "ended": time.time()}) + chr(10))
    if config.how == "raises" and not tried:
        raise ValueError
    if config.how == "dies" and not tried:
        os.kill(os.getpid(), 9)
    if config.how == "hangs" and not tried:
        time.sleep(60)

if __name__ == "__main__":
    hows = ["returns", "raises", "returns", "dies", "returns"]
    experiment.run(configs=[
        {"name": f"c{i}", "seconds": 0.02 * (i * 7 % 5), "how": "hangs" if i == 11 else hows[i % 5]} for i in range(20)
    ], report=lambda results: print(sum(result.record.status == "done" for result in results)))
"""
#: Opens a device when it is loaded, as libraries do; a file stands for /dev/nvidia0.
_OPENS = """
import pyexp.worker.main
pyexp.worker.main._DEVICES = (os.path.realpath("device"),)
if __name__ == "__mp_main__":
    device = open("device")
    seen_when_loaded = os.environ.get("CUDA_VISIBLE_DEVICES")
"""


def told(script: Script) -> list[dict[str, str | float]]:
    """What each attempt saw, and when."""
    files = script.folder.glob("out/e/run/*/told.json")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def no_two_at_a_time(stays: list[dict[str, str | float]]) -> bool:
    ordered = sorted(stays, key=lambda stay: stay["began"])
    return all(one["ended"] <= other["began"] for one, other in pairwise(ordered))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_two_gpus_are_never_shared_whatever_becomes_of_a_cell(script: Script, executor: str):
    script.write(_SCRIPT.replace("EXECUTOR", EXECUTORS[executor]).replace("TOP", ""))
    done = script.run("--gpus", "0,1", "--timeout", "3", "--retries", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "20\n"
    seen = told(script)
    assert len(seen) == 20 + 8  # those that failed, died or hung were tried again
    for gpu in ("0", "1"):
        mine = [one for one in seen if one["CUDA"] == gpu]
        assert mine
        assert no_two_at_a_time(mine)
    assert {(one["CUDA"], one["ROCR"], one["HIP"]) for one in seen} == {("0", "0", "0"), ("1", "1", "0")}
    assert "GPUs as given: 0, 1, each for one cell at a time" in done.stderr
    for record in script.folder.glob("out/e/run/*/record.json"):
        (*_, last) = (record.parent / "told.json").read_text().splitlines()
        assert json.loads(record.read_text())["gpu"] == json.loads(last)["CUDA"]


def test_a_script_that_opens_a_gpu_is_loaded_with_the_cells_own(script: Script):
    (script.folder / "device").touch()
    text = _SCRIPT.replace("EXECUTOR", EXECUTORS["server"]).replace("TOP", _OPENS)
    script.write(text.replace("**told,", "**told, 'loaded': seen_when_loaded,"))
    done = script.run("--gpus", "0,1", "-k", "c[0-4]", "--retries", "1")
    assert done.stdout == "5\n", done.stderr
    assert "device is open, which a fork cannot use" in done.stderr
    seen = told(script)
    assert {one["CUDA"] for one in seen} == {"0", "1"}
    assert all(one["loaded"] == one["CUDA"] for one in seen), seen


def test_a_gpu_that_is_named_twice_is_shared_and_two_that_are_joined_go_to_one_cell(script: Script):
    script.write(_SCRIPT.replace("EXECUTOR", EXECUTORS["server"]).replace("TOP", ""))
    assert script.run("--gpus", "3,3,4+5", "--retries", "1", "-k", "c?", "-j", "5").returncode == 0
    seen = told(script)
    assert {(one["CUDA"], one["HIP"]) for one in seen} == {("3", "0"), ("4,5", "0,1")}
    assert no_two_at_a_time([one for one in seen if one["CUDA"] == "4,5"])


#: What a program prints, by the name of the program.
LISTS = {
    "nvidia-smi": "GPU 0: Fake (UUID: GPU-11)\\nGPU 1: Fake (UUID: GPU-22)\\n",
    "rocm-smi": "GPU[0]\\t: Device Name: Fake\\nGPU[1]\\t: Device Name: Fake\\n",
}


def program(folder: Path, name: str, text: str) -> str:
    """A stand-in for a program, in a folder of its own; returns that folder."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path.parent)


def bare(**changes: str) -> dict[str, str]:
    hidden = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
    return {**{name: value for name, value in os.environ.items() if name not in hidden}, **changes}


@pytest.mark.parametrize("name", LISTS)
def test_auto_asks_the_machine_and_says_what_it_found(script: Script, name: str):
    script.write(_SCRIPT.replace("EXECUTOR", EXECUTORS["server"]).replace("TOP", ""))
    path = program(script.folder, name, f"printf '{LISTS[name]}'")
    done = script.run("--gpus", "auto", "-k", "c[024]", env=bare(PATH=f"{path}:/usr/bin:/bin"))
    assert f"GPUs by {name}: 0, 1, each for one cell at a time" in done.stderr
    assert {one["CUDA"] for one in told(script)} == {"0", "1"}
    assert "GPUs" not in script.run("--gpus", "0", "-k", "c6", "-q", env=bare()).stderr


def test_auto_hands_out_what_this_process_was_given(script: Script):
    script.write(_SCRIPT.replace("EXECUTOR", EXECUTORS["fork"]).replace("TOP", ""))
    done = script.run("--gpus", "auto", "-k", "c[024]", env=bare(CUDA_VISIBLE_DEVICES="5,7"))
    assert "GPUs by CUDA_VISIBLE_DEVICES=5,7: 5, 7, each" in done.stderr
    assert {one["CUDA"] for one in told(script)} == {"5", "7"}


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (["--gpus", "0,1"], {"CUDA_VISIBLE_DEVICES": "5,7"}, "no GPU 0 here: CUDA_VISIBLE_DEVICES=5,7 leaves 5, 7"),
        (["--gpus", "auto"], {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES= leaves none"),
        (["--gpus", "auto"], {"PATH": "/nowhere"}, "nvidia-smi is not installed, rocm-smi is not installed"),
        (["--gpus", "0", "--executor", "inline"], {}, "gpus does not work with InlineExecutor"),
        (["--gpus", "0", "--pdb"], {}, "gpus does not work with InlineExecutor"),
        (["--gpus", "0", "--executor", "ray"], {}, "RayExecutor(num_gpus=1)"),
        (["--gpus", "0,,1"], {}, "'' is no GPU"),
    ],
)
def test_what_cannot_be_is_one_line(script: Script, arguments: list[str], environ: dict[str, str], words: str):
    script.write(_SCRIPT.replace("executor=EXECUTOR", "executor='subprocess'").replace("TOP", ""))
    done = script.run(*arguments, env=bare(**environ))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (script.folder / "out").exists()


def test_a_program_that_fails_is_quoted(script: Script):
    script.write(_SCRIPT.replace("EXECUTOR", EXECUTORS["server"]).replace("TOP", ""))
    path = program(script.folder, "nvidia-smi", "echo 'NVIDIA-SMI has failed: no driver'; exit 9")
    done = script.run("--gpus", "auto", env=bare(PATH=path))
    assert done.returncode == 2
    assert "nvidia-smi lists none (exit status 9: 'NVIDIA-SMI has failed: no driver')" in done.stderr


def test_users_executors_refuse_and_the_option_is_taken_back(script: Script):
    script.write(
        "import pyexp\nclass Own(pyexp.Executor):\n    def run(self, fn, config, result_path):\n"
        "        return fn(config)\n\n"
        "@pyexp.experiment(name='e', executor=Own(), gpus=[0, 1])\ndef e(config):\n    return 1\n\n"
        "if __name__ == '__main__':\n    e.run(configs=[{'name': 'a'}])\n"
    )
    refused = script.run()
    assert refused.returncode == 2
    assert "gpus does not work with Own: its cells run in threads of this process" in refused.stderr
    assert script.run("--gpus", "none").returncode == 0


def test_forks_of_a_process_that_has_opened_a_gpu_are_refused(script: Script):
    (script.folder / "device").touch()
    script.write(
        "import os, sys, pyexp, pyexp.worker.main\n"
        "pyexp.worker.main._DEVICES = (os.path.realpath('device'),)  # stands for /dev/nvidia\n"
        "opened = open('device')\n\n@pyexp.experiment(name='e', executor='fork')\ndef e(config):\n    return 1\n\n"
        "if __name__ == '__main__':\n    e.run(configs=[{'name': 'a'}])\n"
    )
    refused = script.run("--gpus", "0")
    assert refused.returncode == 2
    assert "device open, so its forks would not see GPUs of their own" in refused.stderr
    assert script.run().returncode == 0
