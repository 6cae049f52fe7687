"""Attacks by the files of a run: pickles, names to import, headers of tensors, JSON files."""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch

from .attack import (
    BEGIN_WITH,
    EVALUATE,
    EXPORT,
    GO_ON,
    INSPECT,
    PREDICT,
    RERUN,
    VERIFY,
    Attack,
    Payload,
    changed,
    pickled,
    setting,
    written,
)

WEIGHTS, CARD, STATE = "model.safetensors", "model.json", "preprocessor.json"


def archive() -> bytes:
    """What torch.save makes of a payload."""
    stream = io.BytesIO()
    torch.save({"state_dict": Payload(), "callbacks": {}, "loops": {}}, stream)
    return stream.getvalue()


def objects() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, images=np.array([Payload()], dtype=object), labels=np.zeros(1))
    return stream.getvalue()


PICKLES = [
    Attack("a bare pickle in the place of resume.ckpt runs a shell", written("run/resume.ckpt", pickled), (GO_ON,),
           r"resume\.ckpt cannot be read: .*pickles are refused"),
    Attack("an archive of torch with a payload in the place of resume.ckpt", written("run/resume.ckpt", archive),
           (GO_ON,), r"resume\.ckpt cannot be read: .*[Ww]eights.?only"),
    Attack("a .pt file with a payload is named by ckpt_path", written("evil.pt", archive),
           ((*GO_ON[:-2], "hydra.run.dir=new", "ckpt_path=evil.pt"),), r"evil\.pt cannot be read: .*[Ww]eights.?only"),
    Attack("a pickle in the place of the weights", written(f"run/{WEIGHTS}", pickled), (PREDICT, VERIFY, BEGIN_WITH),
           r"model\.safetensors cannot be read: its header claims"),
    Attack("an npz of Python objects is taken for images", written("evil.npz", objects),
           (("task=pixels", "task.data=evil.npz", "hydra.run.dir=new"),), "Python objects, which are not read"),
    Attack("Hydra unpickles the config of an earlier job", written("evil.pickle", pickled),
           (("--experimental-rerun", "evil.pickle"),), "unpickles a file"),
]  # fmt: skip

NAMES = [
    Attack("a cell is called like a function to import", setting(CARD, "cell.name", "os:system"),
           (PREDICT, VERIFY, EXPORT, BEGIN_WITH), "cell=os:system, which is not installed"),
    Attack("a cell's parameters have Hydra's _target_", setting(CARD, "cell.parameters._target_", "os.system"),
           (PREDICT, INSPECT), "_target_"),
    Attack("a step of the preprocessing is a module's function",
           setting(CARD, "preprocessing.parameters.steps", ["subprocess:run"]), (PREDICT, EVALUATE), "step=subprocess"),
    Attack("a kernel's name leads to a file", setting(CARD, "kernel.name", "../../evil.so"), (PREDICT,),
           r"kernel=../../evil\.so"),
    Attack("a callback of the config is an import path",
           setting("results.json", "config.callbacks", {"x": {"name": "os.system", "_target_": "os.system"}}), (RERUN,),
           "there is no such callback"),
    Attack("what to install is a command of a shell", changed(CARD, lambda card: card["cell"].update(
           name="nice", distribution="x; touch ran", version="$(touch ran)")), (PREDICT,),
           "cell=nice, which is not installed; there are"),
]  # fmt: skip


def tensors(header: dict | bytes, data: bytes = b"", length: int | None = None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return written(f"run/{WEIGHTS}", struct.pack("<Q", len(raw) if length is None else length) + raw + data)


def tensor(shape: list, begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def sparse(folder: Path) -> None:
    """Ten terabytes, of which a few are on the disk."""
    header = json.dumps({"a": tensor([25 * 10**11], 0, 10**13)}).encode()
    with (folder / "run" / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 10**13)


HEADERS = [
    Attack("a header claims ten terabytes that are not there", tensors(
           {"a": tensor([25 * 10**11], 0, 10**13)}, b"1234"), (PREDICT, VERIFY),
           "its tensors take 10,000,000,000,000 bytes"),
    Attack("a file of ten terabytes is sparse", sparse, (PREDICT, EXPORT), "of which .* are on the disk"),
    Attack("a header is said to be longer than any file", tensors(b"{}", length=2**63), (PREDICT,),
           "its header claims"),
    Attack("tensors overlap, so that few bytes make many", tensors(
           {f"t{n}": tensor([2], 0, 8) for n in range(1000)}, b"12345678"), (PREDICT,), "begins at 0, not at 8"),
    Attack("a header is nested a hundred thousand deep", tensors(b'{"a":' + b"[" * 10**5 + b"]" * 10**5 + b"}"),
           (PREDICT, VERIFY), "nested more than 64 deep"),
    Attack("a tensor is there twice, with two meanings", tensors(
           b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}',
           b"1234"), (PREDICT,), "the key 'a' is there twice"),
]  # fmt: skip

JSON_FILES = [
    Attack("a JSON file is nested a hundred thousand deep", written(f"run/{CARD}", "[" * 10**5 + "]" * 10**5),
           (PREDICT, VERIFY, EXPORT), "nested more than 64 deep"),
    Attack("a number of a million digits", written(f"run/{CARD}", '{"format": ' + "9" * 10**6 + "}"), (PREDICT,),
           "model.json cannot be read: Exceeds the limit"),
    Attack("the number of symbols is NaN", written(f"run/{CARD}", '{"format": 1, "inputs": {"size": NaN}}'), (PREDICT,),
           "NaN is not a JSON number"),
    Attack("a key is there twice, so that two readers read two files", written(
           f"run/{CARD}", '{"format": 1, "cell": null, "cell": {"name": "gru"}}'), (PREDICT,), "'cell' is there twice"),
    Attack("two million empty lists fill the memory", written(
           f"run/{STATE}", lambda: b'{"state": [' + b"[]," * 2 * 10**6 + b"[]]}"), (PREDICT,), "too many values"),
    Attack("a JSON file of 65 MB is one text", written(f"run/{STATE}", lambda: b'"' + b"a" * (65 * 2**20) + b'"'),
           (PREDICT,), "bytes; such a file has"),
]  # fmt: skip


def packed() -> bytes:
    """A checkpoint of which a megabyte is packed into a thousandth."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        made.writestr("archive/data/0", bytes(2**20))
    return stream.getvalue()
