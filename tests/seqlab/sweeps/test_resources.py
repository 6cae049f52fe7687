"""GPUs: those that are visible, shared out evenly among processes, free again when a process ends."""

import multiprocessing
import time
from collections import Counter

import pytest

from seqlab.sweeps import resources
from seqlab.sweeps.resources import take_gpu, use_gpus, visible_gpus


@pytest.mark.parametrize(
    ("given", "expected"),
    [("0", ["0"]), ("2, 5", ["2", "5"]), ("", []), ("-1", []), ("MIG-GPU-1/0/0,GPU-8", ["MIG-GPU-1/0/0", "GPU-8"])],
)
def test_what_is_visible_is_what_was_given(monkeypatch, given, expected):
    monkeypatch.setenv(resources.VARIABLE, given)
    assert visible_gpus() == expected


def hold(folder, told):
    told.put(take_gpu(["3", "MIG-GPU-1/0/0"], folder))
    time.sleep(60)


def test_gpus_are_shared_out_evenly_and_come_back(tmp_path):
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    processes = [context.Process(target=hold, args=(tmp_path, told)) for _ in range(5)]
    for process in processes:
        process.start()
    held = Counter(told.get() for _ in processes)
    assert held == {"3": 3, "MIG-GPU-1/0/0": 2}
    for process in processes:
        process.kill()
        process.join()
    again = context.Process(target=hold, args=(tmp_path, told))
    again.start()
    assert told.get() == "3"
    again.kill()
    again.join()


def test_a_run_of_several_devices_sees_them_all_and_without_gpus_nothing_changes(monkeypatch):
    monkeypatch.delenv(resources.VARIABLE, raising=False)
    use_gpus([], 1)
    assert resources.VARIABLE not in resources.os.environ
    monkeypatch.setenv(resources.VARIABLE, "")
    use_gpus(["0", "1"], 2)
    assert resources.os.environ[resources.VARIABLE] == "0,1"
