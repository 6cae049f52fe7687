"""GPUs: visible ones, shared evenly among processes, released when a process ends."""

import multiprocessing
import time
from collections import Counter

import pytest

from seqlab.sweeps import launchers
from seqlab.sweeps.launchers import take_gpu, use_gpus, visible_gpus


@pytest.mark.parametrize(
    ("given", "expected"),
    [("0", ["0"]), ("2, 5", ["2", "5"]), ("", []), ("-1", []), ("MIG-GPU-1/0/0,GPU-8", ["MIG-GPU-1/0/0", "GPU-8"])],
)
def test_visible_gpus_are_those_of_the_environment(monkeypatch, given, expected):
    monkeypatch.setenv(launchers.VARIABLE, given)
    assert visible_gpus() == expected


def hold(folder, queue):
    queue.put(take_gpu(["3", "MIG-GPU-1/0/0"], folder))
    time.sleep(60)


def test_gpus_are_shared_evenly_and_released(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=hold, args=(tmp_path, queue)) for _ in range(5)]
    for process in processes:
        process.start()
    held = Counter(queue.get() for _ in processes)
    assert held == {"3": 3, "MIG-GPU-1/0/0": 2}
    for process in processes:
        process.kill()
        process.join()
    again = context.Process(target=hold, args=(tmp_path, queue))
    again.start()
    assert queue.get() == "3"
    again.kill()
    again.join()


def test_a_run_of_several_devices_sees_all_gpus(monkeypatch):
    monkeypatch.delenv(launchers.VARIABLE, raising=False)
    use_gpus([], 1)
    assert launchers.VARIABLE not in launchers.os.environ
    monkeypatch.setenv(launchers.VARIABLE, "")
    use_gpus(["0", "1"], 2)
    assert launchers.os.environ[launchers.VARIABLE] == "0,1"
