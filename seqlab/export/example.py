"""Text classification with onnxruntime: python predict.py TEXT...

Needs numpy, onnxruntime and the files beside it: model.onnx, encode.py, preprocessor.json, labels.json, export.json.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
BATCH = 256


def read(name: str) -> Any:
    """Read a JSON file beside this one."""
    return json.loads((HERE / name).read_text("utf-8"))


def predict(texts: Iterable[str]) -> list[tuple[str, float] | None]:
    """Return the most likely label of each text and its probability; ``None`` for a text without a known token."""
    return [answer for _, answer in answers(texts)]


def answers(texts: Iterable[str]) -> Iterator[tuple[str, tuple[str, float] | None]]:
    """Classify texts in batches; yield each with its answer."""
    import onnxruntime
    from encode import encoder

    labels, longest = read("labels.json"), read("export.json")["longest"]
    encode = encoder(read("preprocessor.json")["state"])
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    rest = iter(texts)
    while batch := list(islice(rest, BATCH)):
        rows = [encode(text)[:longest] for text in batch]
        found = iter(_classified(session, labels, [row for row in rows if row]))
        for text, row in zip(batch, rows, strict=True):
            yield text, next(found) if row else None


def _classified(session: Any, labels: Sequence[str], rows: Sequence[Sequence[int]]) -> list[tuple[str, float]]:
    import numpy as np

    if not rows:
        return []
    lengths = np.array([len(row) for row in rows], np.int64)
    inputs = np.zeros((len(rows), lengths.max()), np.int64)  # 0 is padding
    for place, row in zip(inputs, rows, strict=True):
        place[: len(row)] = row
    (outputs,) = session.run(None, {"inputs": inputs, "lengths": lengths})
    shares = np.exp(outputs - outputs.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return [(labels[int(row.argmax())], float(row.max())) for row in shares]


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one line with exit code 1."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message."""
        told = message.replace("unrecognized arguments: ", "there is no option ")
        if told != message:
            told += "; a text that begins with a dash goes after --, such as: python predict.py -- -text"
        raise SystemExit(told)


def given(arguments: Sequence[str]) -> Iterable[str]:
    """Return the texts that the command line names."""
    parser = Parser(
        "predict.py",
        description="Classify texts with model.onnx. Prints text, most likely label and probability, tab-separated.",
        epilog="Without TEXT, texts are read from stdin, one per line.",
    )
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="a text; - reads stdin; -- ends the options")
    parser.add_argument("--input", metavar="FILE", help="UTF-8 file with one text per line")
    end = arguments.index("--") if "--" in arguments else len(arguments)  # argparse loses a -- before all texts
    asked = parser.parse_intermixed_args(list(arguments[:end]))
    texts = [*asked.texts, *arguments[end + 1 :]]
    if asked.input is not None:
        if texts:
            raise SystemExit("give texts or --input FILE, not both")
        return lines(Path(asked.input).read_bytes(), asked.input)
    if texts and texts != ["-"]:
        return [typed(text, number) for number, text in enumerate(texts, start=1)]
    if sys.stdin is None or (not texts and sys.stdin.isatty()):
        raise SystemExit("no text given; use TEXT, --input FILE or stdin, one text per line (see --help)")
    return lines(sys.stdin.buffer.read(), "stdin")


def typed(text: str, number: int) -> str:
    """Read an argument as UTF-8, whatever the locale is."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        raise SystemExit(f"text {number} is not UTF-8: {text!a}") from None


def lines(data: bytes, name: str) -> list[str]:
    """Split a file into its lines that are not blank."""
    try:
        text = data.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise SystemExit(f"{name}: byte {error.start:,} is not UTF-8; save it as UTF-8") from error
    found = [line.rstrip("\r") for line in text.split("\n" if "\n" in text else "\r") if line.strip()]
    if not found:
        raise SystemExit(f"{name} has no text; write one per line")
    return found


def main(arguments: Sequence[str]) -> None:
    """Print one line per text."""
    unread = 0
    for text, answer in answers(given(arguments)):
        unread += answer is None
        label, probability = ("", "") if answer is None else (answer[0], f"{answer[1]:.4f}")
        print(" ".join(text.split("\t")).replace("\n", " "), label, probability, sep="\t")
    sys.stdout.flush()
    if unread:
        print(f"texts without a token, which have no label: {unread:,}", file=sys.stderr)


if __name__ == "__main__":
    if sys.stdout is None:
        sys.exit("stdout is closed")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # what Python opens has it
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except ImportError as error:
        sys.exit(f"{error}: pip install numpy onnxruntime")
    except (OSError, ValueError, KeyError) as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer of a full disk is not tried again
        name = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        sys.exit(f"{name}{error.strerror if isinstance(error, OSError) else error}")
