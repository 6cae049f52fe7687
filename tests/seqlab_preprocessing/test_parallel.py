"""Parallel map: the same results in the same order, from any program, also when workers die."""

import logging
import os
import subprocess
import sys
import time

import pytest

from seqlab_preprocessing import parallel
from seqlab_preprocessing.parallel import mapped
from seqlab_preprocessing.pipeline import Chain

TEXTS = [f"Text {index} " + "ă <b>b</b> " * (index % 50) for index in range(3_000)]

JOBS = """
import os, time
HERE = os.environ["SEQLAB_TEST_PROCESS"]
def where(texts):
    time.sleep(0.01)
    return [os.getpid()] * len(texts)
def dies(texts):
    if str(os.getpid()) != HERE:
        os._exit(3)
    return [text.upper() for text in texts]
def fails(texts):
    print("this goes nowhere near the answers")
    if any(text.startswith("Text 2000 ") for text in texts):
        raise ValueError("text 2000 is wrong")
    return texts
"""


@pytest.fixture
def jobs(monkeypatch, tmp_path):
    """Functions that a worker can import, and no patience, so that there are workers from the second batch on."""
    monkeypatch.setattr(parallel, "PATIENCE", 0.0)
    monkeypatch.setattr(parallel, "_BATCH", 10_000)
    monkeypatch.setenv("SEQLAB_TEST_PROCESS", str(os.getpid()))
    (tmp_path / "jobs_for_workers.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jobs_for_workers", raising=False)
    return __import__("jobs_for_workers")


@pytest.mark.slow
@pytest.mark.usefixtures("jobs")
def test_workers_give_what_one_process_gives():
    chain = Chain(["html", "lower", "digits"])
    assert list(mapped(chain.clean, iter(TEXTS), 2)) == chain.clean(TEXTS)
    assert list(mapped(chain.reasons, TEXTS, 3)) == chain.reasons(TEXTS)


def test_work_is_shared_only_where_it_pays(jobs, monkeypatch):
    assert len(set(mapped(jobs.where, TEXTS, 2))) == 3
    assert set(mapped(jobs.where, TEXTS, 1)) == {os.getpid()}
    assert set(mapped(jobs.where, TEXTS[:20], 2)) == {os.getpid()}
    monkeypatch.setattr(parallel, "PATIENCE", 60.0)
    assert set(mapped(jobs.where, TEXTS, 2)) == {os.getpid()}


def test_the_death_of_a_worker_changes_no_result(jobs, caplog):
    with caplog.at_level(logging.WARNING, "seqlab"):
        assert list(mapped(jobs.dies, TEXTS, 2)) == [text.upper() for text in TEXTS]
    assert "without a worker process" in caplog.text


def test_an_error_is_that_of_the_job(jobs):
    with pytest.raises(ValueError, match="text 2000 is wrong"):
        list(mapped(jobs.fails, TEXTS, 2))


def test_texts_are_read_as_they_are_needed(jobs):
    read = 0

    def texts():
        nonlocal read
        for text in TEXTS * 10:
            read += 1
            yield text

    results = mapped(jobs.where, texts(), 2)
    for _ in range(1_000):
        next(results)
    assert read < 3_000
    results.close()


@pytest.mark.usefixtures("jobs")
def test_a_job_that_cannot_be_pickled_runs_in_this_process(caplog):
    with caplog.at_level(logging.WARNING, "seqlab"):
        assert list(mapped(lambda texts: [len(text) for text in texts], TEXTS, 2)) == [len(text) for text in TEXTS]


def test_no_texts():
    assert list(mapped(Chain(["lower"]).clean, [], 2)) == []


PROGRAM = """
from seqlab_preprocessing import parallel
from seqlab_preprocessing.pipeline import Chain
parallel.PATIENCE, parallel._BATCH = 0.0, 10_000
print("begins")
cleaned = list(parallel.mapped(Chain(["lower", "html"]).clean, ["A <b>C</b>" + " x" * 100] * 1_000, 2))
print(len(cleaned), set(cleaned) == {"a c" + " x" * 100})
"""
SAID = "begins\n1000 True\n"


@pytest.mark.parametrize("how", ["script", "stdin"])
def test_a_program_without_a_guard_has_workers_too(tmp_path, how):
    """Workers do not run the program again, and nothing is warned of."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py")] if how == "script" else [sys.executable, "-"]
    done = subprocess.run(
        command, input=PROGRAM if how == "stdin" else None, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, SAID, "")


def test_there_are_no_workers_inside_another_pool():
    code = """if True:
        import multiprocessing
        from seqlab_preprocessing.parallel import _cpus
        with multiprocessing.get_context("fork").Pool(1) as pool:
            print(pool.apply(_cpus))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_the_workers_end_with_the_work(jobs):
    since = time.perf_counter()
    found = set(mapped(jobs.where, TEXTS, 2)) - {os.getpid()}
    for process in found:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert time.perf_counter() - since < 60
