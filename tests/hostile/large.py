"""Attacks by amplification: checkpoints, overrides of a sweep, interpolations, sparse files and cycles of links."""

import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from .attack import EXPORT, GO_ON, PREDICT, RERUN, RESUME, STATUS, VERIFY, Attack, changed, setting, written
from .overrides import plan

CKPT = "run/resume.ckpt"


def archive(*files: tuple[str, bytes]):
    """An archive of stored files, as torch writes it."""

    def build(folder: Path) -> None:
        with zipfile.ZipFile(folder / CKPT, "w") as made:
            for name, data in files:
                made.writestr(f"archive/{name}", data)

    return build


def checkpoint(alter: Any):
    """Change the run's own checkpoint."""

    def build(folder: Path) -> None:
        kept = torch.load(folder / CKPT, weights_only=True)
        alter(kept)
        torch.save(kept, folder / CKPT)

    return build


def doubled(times: int) -> list[Any]:
    """A list that holds another one twice, and so on."""
    made: list[Any] = [1.0]
    for _ in range(times):
        made = [made, made]
    return made


def _views(kept: dict[str, Any]) -> None:
    for moments in kept["optimizer_states"][0]["state"].values():
        moments["exp_avg"] = torch.zeros(1).expand(10**6, 10**6)


def _entry(name: bytes, data: bytes, whole: bytes | None = None) -> tuple[bytes, Any]:
    """A file of an archive, packed where ``whole`` is what comes out, and its line of the directory."""
    of = data if whole is None else whole
    kind, crc = 0 if whole is None else 8, zlib.crc32(of)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, kind, 0, 0, crc, len(data), len(of), len(name), 0) + name + data

    def line(offset: int) -> bytes:
        sizes = (crc, len(data), len(of), len(name), 0, 0, 0, 0, 0, offset)
        return struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, kind, 0, 0, *sizes) + name

    return local, line


def two_directories(folder: Path) -> None:
    """Python's reader takes the directory before the end, torch's the one that the end names."""
    zeros = bytes(10**7)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(zeros) + packer.flush()
    names = (b"archive/data.pkl", b"archive/data/0")
    bomb = [_entry(names[0], b"\x80\x02}."), _entry(names[1], packed, zeros)]
    sound = [_entry(names[0], b"\x80\x02}."), _entry(names[1], b"")]
    places = [0, len(bomb[0][0])]
    begin = sum(len(local) for local, _ in bomb)
    first = b"".join(line(place) for (_, line), place in zip(bomb, places, strict=True))
    behind = b"".join(local for local, _ in sound)
    moved = begin - len(behind)  # Python adds what stands before the archive, as it thinks
    second = b"".join(line(moved + place) for (_, line), place in zip(sound, (0, len(sound[0][0])), strict=True))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(second), begin, 0)
    (folder / CKPT).write_bytes(b"".join(local for local, _ in bomb) + first + behind + second + end)


STACKED = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch ran\x85R."
"""A payload in protocol 4, whose call is named on the stack and not in one word."""

BYTEARRAY = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (3 * 10**9).to_bytes(5, "little") + b"\x85R."

CHECKPOINTS = [
    Attack("a checkpoint asks for three gigabytes in ten bytes", archive(("data.pkl", BYTEARRAY), ("version", b"3\n")),
           (GO_ON,), "it calls 'builtins bytearray'"),
    Attack("lists that hold one another twice, sixty times", checkpoint(
           lambda kept: kept["optimizer_states"][0]["state"].update({0: doubled(60)})), (GO_ON,), "too many values"),
    Attack("a million million numbers are a view of one", checkpoint(_views), (GO_ON,), "its tensors have"),
    Attack("an archive has a directory for Python and another one for torch", two_directories, (GO_ON,),
           "it is ambiguous"),
    Attack("a call is put together on the pickle's stack", archive(("data.pkl", STACKED), ("version", b"3\n")),
           (GO_ON,), "calls by STACK_GLOBAL"),
]  # fmt: skip


def beside(folder: Path) -> None:
    """An experiment outside seqlab's package, which makes a log of what it pleases."""
    text = "# @package _global_\nhydra: {job_logging: {handlers: {x: {'()': os.system, command: touch ran}}}}\n"
    written("evil.yaml", text)(folder)
    plan("cell=gru", f"experiment={'../' * 20}{str(folder)[1:]}/evil")(folder)


RUNS = [{"name": f"r{number}", "words": []} for number in range(150_000)]

FAR = [
    Attack("a plan's experiment is a file elsewhere", beside, (RESUME,), "no such experiment|Could not|traversal"),
    Attack("a plan asks for a thousand million runs", plan("cell=gru", "seed=range(1,1000000000)"), (RESUME,),
           "more than 100,000 runs"),
    Attack("a plan asks for a million processes at a time", plan(
           "cell=gru", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1000000"), (RESUME,), "processes at a time"),
    Attack("a plan names more runs than anyone could read", plan(runs=RUNS), (STATUS,), "names 150,000 runs"),
]  # fmt: skip

INTERPOLATIONS = [
    Attack("a cell's size is read out of the environment", setting(
           "model.json", "cell.parameters.hidden_size", "${oc.env:HOME}"), (PREDICT, EXPORT), "has an interpolation"),
    Attack("braces in braces, for a parser to walk through", setting(
           "model.json", "cell.parameters.hidden_size", "${" * 5_000), (PREDICT,), "has an interpolation"),
    Attack("a config would tell of the environment in an error", setting(
           "results.json", "config.task.data_dir", "${oc.env:PATH}"), (RERUN,), "has an interpolation"),
]  # fmt: skip


def pipe(folder: Path) -> None:
    """A log that waits for a reader."""
    (folder / "run/seqlab.log").unlink(missing_ok=True)
    os.mkfifo(folder / "run/seqlab.log")


def sparse_file(name: str):
    """Make a file of the run ten terabytes long, of which nothing more is on the disk."""

    def build(folder: Path) -> None:
        with (folder / "run" / name).open("r+b") as file:
            file.truncate(10**13)

    return build


def circle(folder: Path) -> None:
    """Forty ways into the same folder, from each of which there are forty."""
    (folder / "sweep").mkdir()
    for number in range(40):
        (folder / "sweep" / f"l{number}").symlink_to(folder / "sweep")


ENDLESS = [
    Attack("the log is a pipe that nobody reads", pipe, (GO_ON,), "not a regular file"),
    Attack("weights are sparse, to be hashed whole", sparse_file("model.safetensors"), (VERIFY,), "are on the disk"),
    Attack("a file is sparse, to be hashed to its end", sparse_file("preprocessor.json"), (VERIFY,),
           "bytes; such a file has"),
    Attack("links lead in circles, forty at each turn", circle, (("report", "sweep"),), "holds no runs"),
    Attack("each pair of thirty thousand labels is to be counted", changed("model.json", lambda card: card.update(
           task_state={"labels": [f"l{n}" for n in range(30_000)], "counts": [1] * 30_000})), (PREDICT,),
           "labels must be <= 2,500, got 30,000"),
]  # fmt: skip
