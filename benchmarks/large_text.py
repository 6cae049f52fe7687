"""Memory of training on a text of a gigabyte, beyond that of an idle process with the same imports.

Writes a text from the standard library's source, trains on it from the command line and samples the resident memory of
the process and its children: in total, and without file pages, which the system can reclaim.

    python benchmarks/large_text.py --preprocessing characters bpe
    python benchmarks/large_text.py preprocessing.max_size=10000 data.batch_size=4 --preprocessing words

A word-level model needs most memory for its logits, whatever the text: 64 streams, 100 steps and 10,000 words make 256
MB, three times. The second command excludes them.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

IDLE = """
import time
import seqlab.training.run
print("ready", flush=True)
time.sleep(60)
"""


def resident(pid: int) -> tuple[int, int]:
    """Return the resident bytes of a process and its children, in total and without file pages.

    Shared memory counts once (proportional set size).
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    fields = {line.split(":")[0]: line.split()[1] for line in lines}
    total, own = 1024 * int(fields.get("Pss", 0)), 1024 * int(fields.get("Pss_Anon", 0))
    for child in children:
        more = resident(int(child))
        total, own = total + more[0], own + more[1]
    return total, own


def idle() -> tuple[int, int]:
    """Return the memory of an idle process with the same imports."""
    process = subprocess.Popen([sys.executable, "-c", IDLE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    found = resident(process.pid)
    process.terminate()
    process.wait()
    return found


def write_text(path: Path, size: int) -> None:
    """Write the standard library's source repeatedly, each copy after a different line."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [source.read_bytes() for source in sources]
    with path.open("wb") as file:
        turn = 0
        while file.tell() < size:
            for text in texts:
                file.write(b"# copy %d\n" % turn + text)
            turn += 1
        file.truncate(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=1e9, help="bytes of text (%(default).0e)")
    parser.add_argument("--preprocessing", nargs="+", default=["characters"], help="such as characters words bpe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="config overrides")
    asked = parser.parse_args()
    before = idle()
    print(f"idle: {before[0] / 1e6:,.0f} MB resident, {before[1] / 1e6:,.0f} MB without file pages")
    with tempfile.TemporaryDirectory() as name:
        text = Path(name) / "text.txt"
        write_text(text, int(asked.size))
        for preprocessing in asked.preprocessing:
            command = [sys.executable, "-m", "seqlab", "task=lm", f"task.data={text}", f"preprocessing={preprocessing}"]
            command += ["trainer.limit_train_batches=50", "trainer.limit_val_batches=2", "trainer.limit_test_batches=2"]
            command += ["trainer.max_epochs=1", "logger=none", f"hydra.run.dir={name}/{preprocessing}"]
            command += asked.overrides
            since = time.monotonic()
            process = subprocess.Popen(command, env={**os.environ, "SEQLAB_CACHE": f"{name}/cache"})
            peak, own = 0, 0
            while process.poll() is None:
                found = resident(process.pid)
                peak, own = max(peak, found[0]), max(own, found[1])
                time.sleep(0.05)
            print(
                f"{preprocessing}: exit {process.returncode}, {time.monotonic() - since:.0f} s; at most"
                f" {(peak - before[0]) / 1e6:,.0f} MB above idle, {(own - before[1]) / 1e6:,.0f} MB without file pages",
                flush=True,
            )


if __name__ == "__main__":
    main()
