"""Attacks by values: tables, sizes, vocabularies and labels."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from .attack import BEGIN_WITH, EVALUATE, EXPORT, PREDICT, RERUN, VERIFY, Attack, changed, setting, written

CARD, STATE, RESULTS = "model.json", "preprocessor.json", "results.json"
PREDICT_TABLE = ("predict", "run", "--input", "texts.csv", "--output", "answers.csv")
TRAIN = ("task=textclf", "hydra.run.dir=new", "trainer.max_epochs=1")


def rows(text: bytes | str):
    return written("texts.csv", text)


def lines(text: bytes | str):
    return written("texts.jsonl", text)


JSON_LINES = (("evaluate", "run", "--data", "texts.jsonl"), (*TRAIN, "task.data=texts.jsonl"))
LABELS = ("c", "\x1b[2J")
CSV = (EVALUATE, PREDICT_TABLE, (*TRAIN, "task.data=texts.csv"))

TABLES = [
    Attack("a table has a million columns, each to be compared with each", rows(
           lambda: ("text,label," + ",".join(map(str, range(10**6))) + "\n").encode()), CSV, "1,000,002 columns"),
    Attack("a quote is never closed, so that the file is one field", rows(
           lambda: b'text,label\n"' + b"a\n" * 10**6), CSV, "unexpected end of data"),
    Attack("a table has zero bytes", rows(b"text,label\na\0b,Greek\n"), CSV, "is zero"),
    Attack("a table is no UTF-8", rows(b"text,label\na\xff\xfeb,Greek\n"), CSV, "not UTF-8"),
    Attack("a row is nested a hundred thousand deep", lines(
           '{"text": "a", "label": ' + "[" * 10**5 + "]" * 10**5 + "}\n"), JSON_LINES, "line 1 is not valid JSON"),
    Attack("a label would clear the terminal", rows(
           "text,label\n" + "".join(f"word{n} more,{LABELS[n % 2]}\n" for n in range(60))), (CSV[2],),
           r"has the control character"),
]  # fmt: skip


def grown(keys: str, value: object):
    return setting(CARD, keys, value)


def task(**changes: object):
    """Make the run one of a task that draws its data, as config and model say alike."""

    def build(folder: Path) -> None:
        for name in (CARD, RESULTS):
            path = folder / "run" / name
            record = json.loads(path.read_text("utf-8"))
            if name == CARD:
                record |= {"task_state": {}, "preprocessing": None, "inputs": {"kind": "tokens", "size": 9}}
                record["task"] = {**record["task"], "name": "first", "parameters": changes}
            else:
                record["config"] |= {"task": {"name": "first", **changes}, "preprocessing": None}
            path.write_text(json.dumps(record), "utf-8")

    return build


SIZES = [
    Attack("a million million units", grown("cell.parameters.hidden_size", 10**12),
           (PREDICT, VERIFY, EXPORT, BEGIN_WITH), "describes a model of more than|does not fit together"),
    Attack("six thousand units, for which there is memory", grown("cell.parameters.hidden_size", 6_000),
           (PREDICT,), "describes a model of more than"),
    Attack("a thousand million layers", grown("model.parameters.depth", 10**9), (PREDICT,),
           "describes a model of more than"),
    Attack("sequences of a million million steps", task(sequence_length=10**12), (RERUN, PREDICT, VERIFY),
           "must be >= 1 and <= 134217728"),
    Attack("a thousand million processes", setting(RESULTS, "config.data.workers", 10**9), (RERUN,),
           "data.workers must be .*<= 1024"),
    Attack("a million devices", setting(RESULTS, "config.trainer.devices", 10**6), (RERUN,),
           "trainer.devices must be .*<= 1024"),
]  # fmt: skip


def symbols(*given: object):
    return setting(STATE, "state", {"symbols": list(given)} if given else {})


def weights(folder: Path, **changed: np.ndarray) -> None:
    path = folder / "run" / "model.safetensors"
    save_file({**load_file(path), **changed}, path)


def shorter(folder: Path) -> None:
    """Fewer vectors than symbols."""
    weights(folder, **{"encoder.weight": load_file(folder / "run" / "model.safetensors")["encoder.weight"][:5]})


def other_type(folder: Path) -> None:
    path = folder / "run" / "model.safetensors"
    save_file({name: value.astype(np.int8)[..., None] for name, value in load_file(path).items()}, path)


VOCABULARIES = [
    Attack("a symbol has two ids", symbols("a", "a", "b"), (PREDICT, VERIFY), "does not fit together"),
    Attack("a symbol is a list", symbols("a", ["b"]), (PREDICT,), "does not fit together"),
    Attack("ids reach beyond the vectors", shorter, (PREDICT, EXPORT, BEGIN_WITH), "does not fit together"),
    Attack("weights are of another type and shape", other_type, (PREDICT,), "does not fit together"),
    Attack("a label would set the terminal's title", changed(CARD, lambda card: card["task_state"].update(
           {key: ["\x1b]0;evil\x07", *value[1:]] for key, value in card["task_state"].items()
            if isinstance(value, list) and value and isinstance(value[0], str)})), (PREDICT, VERIFY, EVALUATE),
           "has the control character"),
    Attack("there are other labels than outputs", changed(CARD, lambda card: card["task_state"].update(
           {key: value[:3] for key, value in card["task_state"].items() if isinstance(value, list)})), (PREDICT,),
           "does not fit together"),
]  # fmt: skip
