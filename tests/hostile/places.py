"""Attacks by paths: links, pipes and names that lead out of a folder, and archives larger than they look."""

import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from .attack import (
    BEGIN_WITH,
    EVALUATE,
    EXPORT,
    GO_ON,
    PREDICT,
    REPORT,
    STATUS,
    VERIFY,
    Attack,
    linked,
    written,
)
from .files import packed


def pipe(folder: Path) -> None:
    """A JSON file that never ends."""
    (folder / "run/model.json").unlink()
    os.mkfifo(folder / "run/model.json")


def climbing(folder: Path) -> None:
    """A sweep one of whose runs is said to lie outside."""
    plan = {
        "schema": 1,
        "words": [],
        "working_folder": "/",
        "runs": [{"name": "../outside", "words": []}],
        "open": False,
    }
    written("sweep/sweep.json", json.dumps(plan))(folder)


PATHS = [
    Attack("the weights are a link to a file outside", linked("run/model.safetensors", "outside/precious"),
           (PREDICT, VERIFY, BEGIN_WITH), "leads out of run"),
    Attack("a JSON file is a device that never ends", linked("run/preprocessor.json", "/dev/zero"), (PREDICT, EVALUATE),
           "leads out of run"),
    Attack("a JSON file is an idle pipe", pipe, (PREDICT, VERIFY, EXPORT), "model.json is not a regular file"),
    Attack("what is exported by default goes where a link leads", linked("run/export", "outside"),
           (("export", "run", "--format", "state-dict"),), "leads out of run"),
    Attack("the report's folder is a link", linked("run/report", "outside"), (REPORT,), "leads out of run"),
    Attack("learning curves are appended to a file outside", linked("run/curves", "outside"), (GO_ON,), "leads out of"),
]  # fmt: skip

NAMED_PATHS = [
    Attack("a sweep's run lies outside", climbing, (STATUS, ("resume", "sweep")),
           "which is no name of a folder"),
    Attack("the lock is a link, and taking it empties the file", linked("run/.lock", "outside/precious"), (GO_ON,),
           "leads out of"),
]  # fmt: skip


def bomb() -> bytes:
    """Images of a hundred megabytes, packed into a thousandth."""
    stream = io.BytesIO()
    np.savez_compressed(stream, images=np.zeros((100, 1024, 1024), np.uint8), labels=np.zeros(100, np.int64))
    return stream.getvalue()


def claiming() -> bytes:
    """An array that says of itself that it has ten terabytes."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10, 1000000, 1000000), }"
    header += b" " * (117 - len(header)) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"few"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("images.npy", array)
        made.writestr("labels.npy", array)
    return stream.getvalue()


def picture() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
PIXELS = ("task=pixels", "hydra.run.dir=new")

ARCHIVES = [
    Attack("a hundred megabytes are packed into a small npz", written("evil.npz", bomb),
           ((*PIXELS, "task.data=evil.npz"),), "would decompress to 104,"),
    Attack("an array in an npz claims ten terabytes", written("evil.npz", claiming),
           ((*PIXELS, "task.data=evil.npz"),), r"evil\.npz (has an array that is too large|is damaged)|evil\.npz: "),
    Attack("a PNG of a hundred bytes has billions of pixels", written("images/a/1.png", picture),
           ((*PIXELS, "task.data_dir=images"),), "1.png"),
    Attack("a checkpoint is packed, and far larger than its file", written("run/resume.ckpt", packed), (GO_ON,),
           "it is compressed"),
    Attack("an archive ends in its middle", written("evil.npz", lambda: bomb()[:5000]),
           ((*PIXELS, "task.data=evil.npz"),), r"evil\.npz is damaged"),
    Attack("PostScript, for which Pillow starts Ghostscript, is called a PNG", written("images/a/1.png", POSTSCRIPT),
           ((*PIXELS, "task.data_dir=images"),), r"1\.png cannot be read as an image"),
]  # fmt: skip
