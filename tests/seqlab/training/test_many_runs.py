"""Many trainings and predictions in one process: memory, file handles and threads stay where they are."""

import ctypes
import gc
import shutil
import threading
from pathlib import Path
from statistics import median

import pytest

import seqlab

WORDS = [
    "task=first", "task.sequence_length=3", "task.examples=32", "task.held_out=16", "cell=rnn", "cell.hidden_size=2",
    "kernel=loop", "trainer.max_epochs=1", "trainer.progress=false", "trainer.threads=1", "data.batch_size=16",
]  # fmt: skip
LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


def one(folder):
    """Train, load what was trained, and predict."""
    seqlab.run(seqlab.compose(WORDS), folder / "run", command="test")
    trained = seqlab.load(folder / "run")
    symbols = trained.task.inputs.symbols
    assert len(trained.predict([" ".join(symbols[:3])])) == 1
    shutil.rmtree(folder / "run")


def measured():
    """Bytes in memory that this process wrote, handles, threads; of libraries the system maps what it likes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is given back, so that only what is held is seen
    (written,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    handles = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return int(written.split()[1]) * 1024, handles, threading.active_count()


def many(count, folder):
    found = []
    for number in range(count):
        one(folder)
        found.append(measured())
        if number % 25 == 24:
            print(f"{number + 1} runs: {found[-1][0] / 1e6:.1f} MB, {found[-1][1]} handles, {found[-1][2]} threads")
    return found


def grown(found, warm):
    """Bytes a hundred runs, by the medians of the first and the last quarter of the runs after the first ones."""
    memory = [each[0] for each in found[warm:]]
    quarter = max(1, len(memory) // 4)
    return (median(memory[-quarter:]) - median(memory[:quarter])) / (len(memory) - quarter) * 100


@LINUX
@pytest.mark.slow
def test_twenty_runs_leave_nothing_behind(tmp_path):
    found = many(20, tmp_path)
    assert found[-1][1:] == found[9][1:]
    assert grown(found, 10) < 5e6  # in so few runs a page more or less is a hundred times as much


@LINUX
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(7200)
def test_after_fifty_of_three_hundred_runs_memory_grows_by_less_than_a_megabyte_a_hundred(tmp_path):
    found = many(300, tmp_path)
    assert found[-1][1:] == found[49][1:]
    print(f"{grown(found, 50) / 1e6:.3f} MB a hundred runs")
    assert grown(found, 50) < 1e6
