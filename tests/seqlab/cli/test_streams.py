"""Streams that are closed, full, gone or not UTF-8: one line, exit code 1, and no result is lost."""

import io
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from seqlab.__main__ import main

FULL = "stdout cannot be written: No space left on device\n"
CLOSED = "stdout cannot be written: it is closed\n"


def gone():
    """A pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full():
    return Path("/dev/full").open("w", encoding="utf-8")


@pytest.fixture
def on(monkeypatch, capsys, tmp_path):
    """Run a command in this process with another stdout (or stdin); give the exit code and what stderr says."""
    monkeypatch.chdir(tmp_path)

    def run(stdout, *arguments, stdin=sys.stdin):
        monkeypatch.setattr(sys, "argv", ["seqlab", *arguments])
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(SystemExit) as stop:
            main()
        assert sys.stdout is stdout
        if stdout is not None:
            with suppress(OSError):
                stdout.close()
        return stop.value.code or 0, capsys.readouterr().err

    return run


@pytest.mark.parametrize(("stream", "message"), [(full, FULL), (gone, ""), (lambda: None, CLOSED)])
@pytest.mark.parametrize("arguments", [("--help",), ("plugins", "cell"), ("predict", "RUN", "Banana", "--json")])
def test_a_result_that_cannot_be_printed(on, tongues, stream, message, arguments):
    code, err = on(stream(), *(str(tongues) if word == "RUN" else word for word in arguments))
    assert (code, err) == (1, message)


@pytest.mark.parametrize(
    ("stream", "message"),
    [(full, FULL), *(pytest.param(*row, marks=pytest.mark.slow) for row in ((gone, ""), (lambda: None, CLOSED)))],
)
def test_a_run_continues_if_stdout_fails(on, names_folder, tmp_path, stream, message):
    """All results are written; the exit code says that stdout failed."""
    quick = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "cell.hidden_size=4", "logger=none", "cell=rnn")
    code, err = on(stream(), *quick, f"task.data_dir={names_folder}", "hydra.run.dir=out")
    assert (code, err) == (1, message)
    assert json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))["metrics"]["test"]
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_missing_in_the_encoding_are_escaped(on, tongues, encoding):
    kept = io.BytesIO()
    stream = io.TextIOWrapper(kept, encoding)
    texts = ["Nébele", "na\N{GRINNING FACE}ba", "日本"]
    monkeypatched = [str(tongues), *texts, "--json"]
    stream.close = lambda: None
    assert on(stream, "predict", *monkeypatched) == (0, "")
    stream.flush()
    written = kept.getvalue()
    assert [json.loads(line)["text"] for line in written.decode(encoding).splitlines()] == texts
    assert (b"\\u65e5\\u672c" in written) == (encoding != "utf-8")
    assert (b"\\u00e9" in written) == (encoding == "ascii")


def test_a_closed_stdin_has_no_text(on, tongues):
    code, err = on(io.StringIO(), "predict", str(tongues), stdin=None)
    assert (code, err) == (1, "stdin has no text; write one per line\n")


@pytest.mark.parametrize(
    ("redirected", "code", "err"),
    [
        (">&-", 1, CLOSED),
        pytest.param(">/dev/full", 1, FULL, marks=pytest.mark.slow),
        ("| true", 1, ""),
        pytest.param("2>&-", 0, "", marks=pytest.mark.slow),
        pytest.param("2>/dev/full nowhere", 1, "", marks=pytest.mark.slow),
        pytest.param("<&- nowhere", 1, "nowhere is no sweep's folder: it has no sweep.json\n", marks=pytest.mark.slow),
    ],
)
def test_a_shell_closes_streams(tmp_path, redirected, code, err):
    """In processes of their own, where Python flushes streams at exit."""
    plan = {"schema": 1, "words": [], "working_folder": str(tmp_path), "runs": [], "open": False}
    (tmp_path / "sweep.json").write_text(json.dumps(plan), "utf-8")
    place = "" if "nowhere" in redirected else "."
    command = f"set -o pipefail; '{sys.executable}' -W ignore -m seqlab status {place} {redirected}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (code, err)
