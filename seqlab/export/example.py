"""From text to label with onnxruntime alone: python predict.py TEXT...

It needs numpy and onnxruntime, and the files it lies beside: model.onnx, encode.py, preprocessor.json, labels.json and
export.json.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from encode import encoder

HERE = Path(__file__).resolve().parent


def read(name: str) -> Any:
    """Read a JSON file beside this one."""
    return json.loads((HERE / name).read_text("utf-8"))


def predict(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Give the likeliest label of each text and its probability."""
    labels, longest = read("labels.json"), read("export.json")["longest"]
    encode = encoder(read("preprocessor.json")["state"])
    rows = [encode(text)[:longest] for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if not row:
            raise SystemExit(f"the text {text!r} has nothing in it to read")
    lengths = np.array([len(row) for row in rows], np.int64)
    inputs = np.zeros((len(rows), lengths.max()), np.int64)  # 0 is padding
    for place, row in zip(inputs, rows, strict=True):
        place[: len(row)] = row
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"inputs": inputs, "lengths": lengths})
    shares = np.exp(outputs - outputs.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return [(labels[int(row.argmax())], float(row.max())) for row in shares]


if __name__ == "__main__":
    for given, (label, probability) in zip(sys.argv[1:], predict(sys.argv[1:]), strict=True):
        print(given, label, f"{probability:.4f}", sep="\t")
