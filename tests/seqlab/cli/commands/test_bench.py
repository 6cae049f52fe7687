"""``bench``: measurements and files."""

import csv
import json
from pathlib import Path

import pytest
import torch

from seqlab.cli.commands import bench
from seqlab.cli.commands.bench import Shape, read_shape
from seqlab.recurrence import selection


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in bench._HEAP.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    selection._read.cache_clear()


def test_shapes() -> None:
    assert read_shape("16x1000x64x128") == Shape(16, 1000, 64, 128)
    assert read_shape("2x3x4x5r") == Shape(2, 3, 4, 5, ragged=True)
    assert str(read_shape("2x3x4x5r")) == "2x3x4x5r"


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kernel once per case; for ragged rows torch's packed module, too; its ratio is 1."""
    table, picture = tmp_path / "table.csv", tmp_path / "ratios.svg"
    words = ["--cells", "lstm", "--shapes", "3x4x2x5,3x4x2x5r", "--kernels", "vendor,loop", "--runs", "2"]
    assert bench.main([*words, "--csv", str(table), "--plot", str(picture)]) == 0
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    full = ["torch.nn.LSTM", "vendor", "loop"]
    assert [row["path"] for row in rows] == [*full, "torch.nn.LSTM", "torch.nn.LSTM, packed", "vendor", "loop"]
    assert float(rows[0]["ratio"]) == 1
    assert float(rows[4]["ratio"]) == 1
    assert all(float(row["train_low"]) <= float(row["train_ms"]) <= float(row["train_high"]) for row in rows)
    assert all(float(row["kept_mib"]) > 0 for row in rows)
    assert all(float(row["gflops"]) > 0 for row in rows)
    assert len({row["bound_gflops"] for row in rows}) == 2  # one of each case
    assert picture.stat().st_size > 0
    assert "median (min-max) of 2 interleaved runs" in " ".join(capsys.readouterr().out.split())


def test_tune_writes_what_auto_reads(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["--cells", "mingru,gru", "--kernels", "loop", "--shapes", "3x4x2x5", "--runs", "1", "--tune"])
    entries = json.loads(selection.table_path(torch.device("cpu")).read_text("utf-8"))
    assert [entry["cell"] for entry in entries] == ["MinGRU", "GRU"]
    assert entries[0]["speeds"] == {"loop": 1.0}
    assert str(selection.table_path(torch.device("cpu"))) in capsys.readouterr().out.replace("\n", "")


def test_auto_is_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQLAB_COMPILE", "never")  # so that auto does not take fused
    words = ["--cells", "gru", "--shapes", "3x4x2x5", "--runs", "1", "--kernels", "auto,loop"]
    bench.main([*words, "--csv", str(tmp_path / "table.csv")])
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["torch.nn.GRU", "auto: vendor", "loop"]
