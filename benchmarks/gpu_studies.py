"""Studies that need a GPU: published figures, horizons over thousands of steps, training throughput.

Stops after ``--minutes``; the same command with the same folder resumes each study: a run from its checkpoint, a sweep
from its finished runs. A summary table comes last, with the curve so far of unfinished runs.

    python benchmarks/gpu_studies.py --to FOLDER --data FOLDER_OF_PTB

seqlab must be importable as an installed distribution, with Hydra. Where nothing may be installed, fill a folder
elsewhere and add it to ``PYTHONPATH``:

    pip install --target SITE --no-deps . hydra-core omegaconf antlr4-python3-runtime==4.9.3 platformdirs pooch

``--dry`` runs tiny sizes on a CPU.
"""

import argparse
import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from budget import START, table

TAKES = 40.0
"""Seconds that a run may take to write its checkpoint."""
SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.limit_val_batches=1"]
SHORT += ["trainer.limit_test_batches=1", "cell.hidden_size=4"]
THROUGHPUT = ["cell=lstm", "trainer.precision=bf16-mixed", "trainer.early_stopping=null"]
TEXT = [*THROUGHPUT, "task=lm", "cell.hidden_size=128", "data.batch_size=256"]


class Study(NamedTuple):
    """A seqlab command.

    Attributes:
        key: name of the study and of its folder.
        words: arguments of the command.
        dry: arguments for ``--dry``.
        minutes: time limit per invocation of this script.
        theirs: published figures.
    """

    key: str
    words: list[str]
    dry: list[str]
    minutes: float = 9.0
    theirs: str = ""

    @property
    def goes_on(self) -> bool:
        """Whether the same arguments resume it; a single run needs ``ckpt_path``."""
        return self.words[0] in ("-m", "reproduce")


def studies(data: Path | None) -> list[Study]:
    """Return the studies in order of priority."""
    ptb = [] if data is None else [f"task.data_dir={data.resolve()}"]
    tiny = [*SHORT, "model.embedding_size=4", "data.batch_size=2"]
    # These recipes set kernel=fused, whose GPU kernel does not support their sizes.
    recipe = ["kernel=auto", "--seeds", "1"]
    return [
        Study("names", [*THROUGHPUT, "task=names", "trainer.max_epochs=15"], SHORT, 1.0),
        *(
            Study(f"lm_{kernel}", [*TEXT, f"kernel={kernel}"], [*SHORT, "task.stdlib_bytes=20000"], 1.5)
            for kernel in ("auto", "fused", "vendor")
        ),
        Study("ptb_medium", ["experiment=ptb_medium", *ptb], tiny, theirs="82.7 (Zaremba et al. 2014)"),
        Study(
            "ptb_large", ["experiment=ptb_large", *ptb], tiny,
            theirs="78.4 (Zaremba et al. 2014); 78.93 (Bai et al. 2018, 3x700)",
        ),
        Study(
            "adding600", ["reproduce", "tcn/adding600", *recipe], ["--quick"], 5.0,
            "gru 5.3e-5, lstm 0.164, rnn 0.177",
        ),
        Study(
            "copying1000", ["reproduce", "tcn/copying1000", *recipe], ["--quick"], 9.0,
            "lstm 0.0204, gru 0.0197, rnn 0.0202",
        ),
        Study(
            "horizon",
            ["-m", "experiment=horizon", "hydra.sweeper.max_distance=10000", "hydra.sweep.dir=sweep"],
            ["experiment=horizon_quick", "hydra.sweeper.max_distance=4", "trainer.limit_train_batches=2"],
        ),
    ]  # fmt: skip


def words(study: Study, folder: Path, *, dry: bool) -> list[str]:
    """Return the arguments of the command; relative paths are in the folder of the study."""
    shared = ["logger=none", "trainer.progress=false", f"trainer={'cpu' if dry else 'gpu'}"]
    made = [*study.words, *shared]
    if not study.goes_on:
        made.append("hydra.run.dir=run")
        if (folder / "run" / "resume.ckpt").is_file():
            made.append("ckpt_path=last")
    return [*made, *(study.dry if dry else [])]


def is_done(folder: Path) -> bool:
    """Return whether a study is finished, which ``done`` marks."""
    return (folder / "done").is_file()


def work(study: Study, folder: Path, seconds: float, *, dry: bool) -> str:
    """Run a study with a time limit and return its status."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "seqlab", *words(study, folder, dry=dry)]
    with (folder / "log").open("a", encoding="utf-8") as log:
        running = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = running.wait(seconds)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)  # stops at a checkpoint
            try:
                running.wait(TAKES)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
            return "stopped; resumes next time"
    if code:
        return f"failed ({code}): {_last_line(folder / 'log')}"
    (folder / "done").touch()
    return "done"


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def rows(folder: Path, found: list[Study]) -> Iterator[dict[str, Any]]:
    """Return a row per run, finished or not."""
    for study in found:
        for place in sorted({path.parent for path in (folder / study.key).rglob(".hydra")}):
            name = str(place.relative_to(folder / study.key))
            yield {"study": study.key, "run": name, "theirs": study.theirs, **(_result(place) or _so_far(place))}


def _result(place: Path) -> dict[str, Any] | None:
    if not (place / "results.json").is_file():
        return None
    record = json.loads((place / "results.json").read_text("utf-8"))
    metric, cost = record["best"]["monitor"], record["cost"]
    return {
        "what": f"test {metric}", "value": record["metrics"]["test"][metric], "epochs": cost["epochs"],
        "seconds": cost["training_seconds"], "examples_s": cost["examples_per_second"],
        "tokens_s": cost["tokens_per_second"], "mib": cost.get("peak_gpu_memory_bytes", 0) >> 20,
        "kernel": json.dumps(record["kernel"]),
    }  # fmt: skip


def _so_far(place: Path) -> dict[str, Any]:
    curve = place / "curves" / "metrics.csv"
    if not curve.is_file():
        return {"what": "nothing yet"}
    with curve.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if any(key.startswith("valid/") and line[key] for key in line)]
    if not lines:
        return {"what": "no epoch yet"}
    key = next(
        (name for name in lines[-1] if name in ("valid/perplexity", "valid/mse", "valid/accuracy")), "valid/loss"
    )
    return {"what": f"{key} so far", "value": float(lines[-1].get(key) or "nan"), "epochs": len(lines)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--to", type=Path, default=Path("runs/gpu_studies"), help="folder of all runs (%(default)s)")
    parser.add_argument("--data", type=Path, help="folder of ptb.train.txt, ptb.valid.txt and ptb.test.txt")
    parser.add_argument("--minutes", type=float, default=9.0, help="time for all (%(default)s)")
    parser.add_argument("--only", help="studies, such as names,ptb_medium")
    parser.add_argument("--dry", action="store_true", help="tiny sizes on a CPU")
    asked = parser.parse_args()
    if lacking := [name for name in ("hydra", "omegaconf") if importlib.util.find_spec(name) is None]:
        parser.error(f"{', '.join(lacking)} cannot be imported; see the docstring of this file")
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    found = studies(asked.data)
    if asked.only:
        wanted = asked.only.split(",")
        if unknown := set(wanted) - {study.key for study in found}:
            parser.error(f"--only {min(unknown)}: the studies are {', '.join(study.key for study in found)}")
        found = [study for study in found if study.key in wanted]
    end = START + 60 * asked.minutes - TAKES
    for study in found:
        if is_done(asked.to / study.key):
            continue
        left = end - time.monotonic()
        if left < (5 if asked.dry else 20):
            break
        began = time.monotonic()
        said = work(study, asked.to / study.key, min(left, 60 * study.minutes), dry=asked.dry)
        print(f"  {study.key}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return _tell(asked.to, studies(asked.data))


def _tell(folder: Path, found: list[Study]) -> int:
    lines = list(rows(folder, found))
    columns = {
        "study": "study", "run": "run", "what": "what", "value": "value", "theirs": "theirs", "epochs": "epochs",
        "seconds": "s", "examples_s": "examples/s", "tokens_s": "tokens/s", "mib": "MiB",
    }  # fmt: skip
    text = table(columns, lines)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "studies.json").write_text(json.dumps(lines, indent=1) + "\n", "utf-8")
    (folder / "table.txt").write_text(text + "\n", "utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
