"""Time to read a large sweep, made of copies of one real run's files.

python benchmarks/ledger.py --runs 10000
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import seqlab
from seqlab.runs import ownership, run_folder
from seqlab.sweeps import ledger
from seqlab.sweeps.plan import run_name

QUICK = ("trainer.max_epochs=1", "cell.hidden_size=4", "logger=csv", "trainer.progress=false", "trainer.threads=1")


def real_run(folder: Path) -> Path:
    """Run a sweep of one run and return its folder."""
    words = [sys.executable, "-m", "seqlab", "-m", *QUICK, "seed=0", "hydra.sweep.dir=real"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    (found,) = [path.parent for path in (folder / "real").glob("*/results.json")]
    return found


def synthetic(folder: Path, run: Path, count: int) -> None:
    """Write a sweep of runs with different seeds; 1 % failed, 1 % missing."""
    label = run_name(seqlab.compose([])).rpartition("_")[0]
    names = [f"{label}_{index:012x}" for index in range(count)]
    page, results = json.loads((run / ledger.RUN).read_text()), json.loads((run / run_folder.RESULTS).read_text())
    ledger.write_plan(folder, ["seed=..."], {name: [*QUICK, f"seed={seed}"] for seed, name in enumerate(names)})
    small = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.suffix == ".json"}
    for seed, name in enumerate(names):
        if seed % 100 == 99:
            continue
        where = folder / name
        where.mkdir()
        for other, data in small.items():
            (where / other).write_bytes(data)
        (where / ownership.LOCK).touch()
        failed = seed % 100 == 98
        own = {**page, "words": [*QUICK, f"seed={seed}"], "state": "failed" if failed else "done"}
        (where / ledger.RUN).write_text(json.dumps(own, indent=2))
        if failed:
            (where / run_folder.RESULTS).unlink()
        else:
            own_results = {**results, "config": {**results["config"], "seed": seed}}
            (where / run_folder.RESULTS).write_text(json.dumps(own_results, indent=2))


def read_results(folder: Path) -> int:
    """Read the metrics and config of every finished run, as a report does."""
    rows = []
    for entry in ledger.read_entries(folder):
        if entry.state == "done":
            record = run_folder.read_json(folder / entry.name / run_folder.RESULTS)
            rows.append((record["metrics"]["test"], record["config"]["seed"]))
    return len(rows)


def timed_status(folder: Path, *options: str) -> float:
    """Return the seconds of the command in its own process."""
    began = time.perf_counter()
    words = [sys.executable, "-m", "seqlab", "status", str(folder), *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="folder of the sweep (a temporary one)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        work = Path(name)
        run = real_run(work)
        files = [path for path in run.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        results = (run / run_folder.RESULTS).stat().st_size
        print(f"a real run: {len(files)} files, {size:,} bytes; results.json {results:,}")
        began = time.perf_counter()
        (work / "sweep").mkdir()
        synthetic(work / "sweep", run, asked.runs)
        print(f"{asked.runs:,} run folders written in {time.perf_counter() - began:.1f} s")
        print(f"status          {timed_status(work / 'sweep'):5.1f} s")
        print(f"status --json   {timed_status(work / 'sweep', '--json'):5.1f} s")
        began = time.perf_counter()
        count = read_results(work / "sweep")
        print(f"all results     {time.perf_counter() - began:5.1f} s for {count:,} results.json")


if __name__ == "__main__":
    main()
