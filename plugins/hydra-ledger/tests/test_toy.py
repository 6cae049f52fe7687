"""An application that has nothing to do with seqlab, swept with several plugins, killed, read and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from hydra_ledger.locks import take

APP = Path(__file__).parent / "toy" / "app.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Shell:
    """A user's shell in a folder of its own."""

    def __init__(self, folder: Path, *site: Path) -> None:
        self.folder = folder
        paths = [*map(str, site), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}

    def start(self, *words: str) -> subprocess.Popen:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, *words], cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out = process.communicate(timeout=300)[0]
        assert process.returncode == code, out
        return out

    def sweep(self, *overrides: str) -> list[str]:
        return [str(APP), "-m", *overrides, f"journal={self.folder / 'journal'}", "hydra.sweep.dir=sweep"]

    def begun(self) -> list[str]:
        """The jobs that were begun: number and overrides."""
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def kill_after(self, jobs: int, *overrides: str) -> None:
        """Start a sweep and kill it with all its processes, once it has begun some jobs."""
        process, end = self.start(*self.sweep(*overrides)), time.monotonic() + 200
        while len(self.begun()) < jobs:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.02)
        descendants = _descendants(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        for each in descendants:  # submitit starts a session for each job
            try:
                os.kill(each, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.communicate()

    def status(self) -> list[dict]:
        return json.loads(self.run("-m", "hydra_ledger", "status", "sweep", "--json"))

    def resume(self, *words: str, code: int = 0) -> str:
        return self.run("-m", "hydra_ledger", "resume", "sweep", *words, code=code)


def _descendants(process: int) -> list[int]:
    children = [
        int(each) for task in Path(f"/proc/{process}/task").glob("*/children") for each in task.read_text().split()
    ]
    return [*children, *(deeper for child in children for deeper in _descendants(child))]


def states(entries: list[dict]) -> Counter:
    return Counter(entry["state"] for entry in entries)


def check_complete(shell: Shell, total: int, killed: set[str]) -> None:
    """All jobs are done, once each but for those that were killed, in folders numbered from 0."""
    entries = shell.status()
    assert states(entries) == {"done": total}
    assert [entry["name"] for entry in entries] == list(map(str, range(total)))
    for entry in entries:
        x, y = (float(re.search(rf"\b{key}=(\S+)", " ".join(entry["overrides"]))[1]) for key in "xy")
        assert entry["value"] == pytest.approx((x - 2) ** 2 + y)
    begun = Counter(line.split()[0] for line in shell.begun())
    assert {number for number, times in begun.items() if times > 1} <= killed
    assert set(begun) == set(map(str, range(total)))


GRID = ("x=0,1,2", "y=0,1")


@pytest.mark.parametrize(
    "launcher",
    [
        (),
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=submitit_local",),
        pytest.param(("hydra/launcher=ray",), marks=pytest.mark.long),
    ],
    ids=["basic", "joblib", "submitit_local", "ray"],
)
def test_a_killed_sweep_is_completed(launcher, request, tmp_path):
    shell = Shell(tmp_path, *([request.getfixturevalue("ray")] if "hydra/launcher=ray" in launcher else []))
    # submitit and Ray start many jobs at once; elsewhere some are done by then.
    seconds = "seconds=0.3" if launcher[:1] in [(), ("hydra/launcher=joblib",)] else "seconds=1000"
    shell.kill_after(2, *GRID, seconds, *launcher)
    entries = shell.status()
    killed = {entry["name"] for entry in entries if entry["state"] == "killed"}
    assert killed
    assert states(entries).keys() <= {"done", "killed", "planned"}
    assert len(entries) == 6
    refused = shell.resume("x=0,1", code=1)
    assert re.fullmatch(r"hydra\.sweep\.dir=\S+ holds another sweep: x=0,1,2 there, x=0,1 here; .*\n", refused)
    shell.resume("seconds=0")
    check_complete(shell, 6, killed)
    assert "nothing is left to do: 6 of 6" in shell.resume()


def test_failed_jobs_run_again_and_two_processes_do_not_share_a_sweep(tmp_path):
    shell = Shell(tmp_path)
    shell.run(*shell.sweep(*GRID, "bad=[1]"), code=1)
    out = shell.run("-m", "hydra_ledger", "status", "sweep", code=1)
    assert "6 runs: 4 done, 2 failed" in out
    assert "failed   2: ValueError: x=1 is bad" in out
    lock = take(tmp_path / "sweep")
    assert "another process runs the sweep" in shell.resume("bad=[]", code=1)
    lock.release()
    shell.resume("bad=[]")
    check_complete(shell, 6, {"2", "3"})


def test_an_interrupted_resumption_lets_its_jobs_end(tmp_path):
    (tmp_path / "app.py").write_text(SAVES.format(config=APP.parent))
    shell = Shell(tmp_path)
    words = [str(tmp_path / "app.py"), "-m", "x=1", "journal=journal", "bad=[1]", "hydra.sweep.dir=sweep"]
    shell.run(*words, code=1)
    process, end = shell.start("-m", "hydra_ledger", "resume", "sweep", "--failed", "bad=[]"), time.monotonic() + 60
    while not (tmp_path / "began").exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode not in (0, -signal.SIGINT)
    assert (tmp_path / "saved").exists()
    assert not list((tmp_path / "sweep").glob("selection-*"))
    assert "no job failed" in shell.resume("--failed")


SAVES = """
import pathlib, time, hydra

@hydra.main(version_base=None, config_path="{config}", config_name="config")
def app(config):
    if config.bad:
        raise ValueError("bad")
    pathlib.Path("began").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(1)
        pathlib.Path("saved").touch()
        raise

app()
"""


def installed(target, *packages):
    """Install packages where no other test sees them, without what they require."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--target", str(target), *packages], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{packages[0]} cannot be installed: {done.stderr[-200:]}")
    return target


@pytest.fixture(scope="module")
def optuna(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("optuna"), "hydra-optuna-sweeper==1.3.0")


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("ray"), "hydra-ray-launcher==1.2.2", "ray", "msgpack")


@pytest.mark.parametrize("seed", ["1", pytest.param("null", marks=pytest.mark.long)])
def test_optuna_goes_on_up_to_its_number_of_trials(optuna, seed, tmp_path):
    """With a seed it proposes the same trials again; without one the study is kept in the folder of the sweep."""
    shell = Shell(tmp_path, optuna)
    search = ["hydra/sweeper=optuna", f"hydra.sweeper.sampler.seed={seed}", "hydra.sweeper.n_trials=6"]
    search += ["hydra.sweeper.n_jobs=2", "x=interval(0.0,4.0)", "y=choice(0,1)"]
    shell.kill_after(4, *search, "seconds=0.3")
    killed = {entry["name"] for entry in shell.status() if entry["state"] == "killed"}
    assert killed
    shell.resume("seconds=0")
    check_complete(shell, 6, killed)
    best = re.search(r"best_value: (\S+)", (tmp_path / "sweep" / "optimization_results.yaml").read_text())[1]
    assert float(best) == min(entry["value"] for entry in shell.status())
