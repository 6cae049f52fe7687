"""Text classification with onnxruntime: python predict.py TEXT...

Needs numpy, onnxruntime and the files beside it: model.onnx, encode.py, table_files.py, preprocessor.json, labels.json,
export.json.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
ROWS, STEPS, CHUNK = 256, 2**17, 4096
TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")

Answer = list[tuple[str, float]]
"""Labels with their probabilities, the likeliest first."""


def read(name: str) -> Any:
    """Read a JSON file beside this one."""
    return json.loads((HERE / name).read_text("utf-8"))


def predict(texts: Iterable[str]) -> list[tuple[str, float] | None]:
    """Return the most likely label of each text and its probability; ``None`` for a text without a token."""
    return [answer[0] if answer else None for answer in Classifier().answers(list(texts), top=1)]


class Classifier:
    """The model, its vocabulary and its labels."""

    def __init__(self) -> None:
        import onnxruntime
        from encode import encoder

        self.labels, self.longest = read("labels.json"), read("export.json")["longest"]
        self.encode = encoder(read("preprocessor.json")["state"])
        self.session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
        self.cut = 0

    def answers(self, texts: Sequence[str], top: int) -> list[Answer | None]:
        """Classify texts in batches of similar length; ``None`` for a text without a token."""
        rows = [self.encode(text) for text in texts]
        self.cut += sum(len(row) > self.longest for row in rows) if self.longest else 0
        rows = [row[: self.longest] for row in rows]
        found: list[Answer | None] = [None] * len(rows)
        for batch in _batches([len(row) for row in rows]):
            for place, answer in zip(batch, self._classified([rows[place] for place in batch], top), strict=True):
                found[place] = answer
        return found

    def _classified(self, rows: Sequence[Sequence[int]], top: int) -> list[Answer]:
        import numpy as np

        lengths = np.array([len(row) for row in rows], np.int64)
        inputs = np.zeros((len(rows), lengths.max()), np.int64)  # 0 is padding
        for place, row in zip(inputs, rows, strict=True):
            place[: len(row)] = row
        (outputs,) = self.session.run(None, {"inputs": inputs, "lengths": lengths})
        shares = np.exp(outputs - outputs.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        order = np.argsort(-shares, axis=1, kind="stable")[:, :top]
        return [
            [(self.labels[index], float(row[index])) for index in best]
            for row, best in zip(shares, order.tolist(), strict=True)
        ]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group the places of lengths above 0 into batches of similar length."""
    batch: list[int] = []
    for place in sorted((place for place, length in enumerate(lengths) if length), key=lengths.__getitem__):
        if batch and (len(batch) == ROWS or (len(batch) + 1) * lengths[place] > STEPS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one line with exit code 1."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message."""
        told = message.replace("unrecognized arguments: ", "there is no option ")
        if told != message:
            told += "; a text that begins with a dash goes after --, such as: python predict.py -- -text"
        raise SystemExit(f"{told} (see python predict.py --help)")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        "predict.py",
        description="Classify texts: arguments, lines of stdin, or a table. Prints text, label, probability, label, "
        "probability, ..., separated by tabs; to a table it adds the columns label and probability.",
        epilog="Without TEXT and --input, texts are read from stdin, one per line, and answered as they arrive.",
    )
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="a text; - reads stdin; -- ends the options")
    parser.add_argument("--top", type=int, metavar="N", help="answers for each text (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="UTF-8 table (.csv, .tsv, .jsonl) or, with another ending, one text per line",
    )
    parser.add_argument("--output", metavar="FILE", help="table to write: .csv, .tsv or .jsonl")
    parser.add_argument("--column", action="append", help="column of the texts; several are joined, in order")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    end = arguments.index("--") if "--" in arguments else len(arguments)  # argparse loses a -- before all texts
    asked = parser.parse_intermixed_args(list(arguments[:end]))
    asked.texts = [*asked.texts, *arguments[end + 1 :]]
    asked.table = asked.input is not None and Path(asked.input).suffix.lower() in TABLES
    if fault := _fault(asked):
        raise SystemExit(fault)
    return asked


def _fault(asked: argparse.Namespace) -> str | None:
    """Return what is wrong with the command line."""
    if asked.input == "":
        return "--input must name a file, got an empty text"
    if asked.input is not None and asked.texts:
        return "give texts or --input FILE, not both"
    if asked.top is not None and asked.top < 1:
        return f"--top must be >= 1, got {asked.top}"
    if asked.table and asked.output is None:
        return "a table as --input needs --output FILE, such as answers.csv or answers.jsonl"
    if asked.table and (asked.top is not None or asked.json):
        return "--top and --json go with texts; a table gets the most likely label in the format of --output"
    if not asked.table and (asked.output is not None or asked.column or asked.force):
        return f"--output, --column and --force go with a table as --input, one of {', '.join(TABLES)}"
    return None


def texts_of(asked: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the texts that the command line names, each time those that have arrived."""
    if asked.input is not None:
        yield whole_lines(Path(asked.input).read_bytes(), asked.input)
    elif asked.texts and asked.texts != ["-"]:
        yield [typed(text, number) for number, text in enumerate(asked.texts, start=1)]
    elif sys.stdin is None or (not asked.texts and sys.stdin.isatty()):
        raise SystemExit("no text given; use TEXT, --input FILE or stdin, one text per line (see --help)")
    else:
        yield from arriving(sys.stdin.buffer)


def arriving(stream: Any) -> Iterator[list[str]]:
    """Yield the lines of a pipe as they arrive."""
    rest, place = b"", 0
    while piece := stream.read1(2**20):
        whole, newline, piece_rest = piece.rpartition(b"\n")
        if not newline:
            rest += piece
            continue
        yield lines(rest + whole, "stdin", place)
        place += len(rest) + len(whole) + 1
        rest = piece_rest
    if rest:
        yield lines(rest, "stdin", place) if place else whole_lines(rest, "stdin")


def typed(text: str, number: int) -> str:
    """Read an argument as UTF-8, whatever the locale is."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        raise SystemExit(f"text {number} is not UTF-8: {text!a}") from None


def lines(data: bytes, name: str, place: int = 0) -> list[str]:
    """Split bytes that start at a place of a file into its lines."""
    if (zero := data.find(b"\0")) >= 0:
        raise SystemExit(f"{name}: byte {place + zero:,} is zero, as in UTF-16 or binary data; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SystemExit(f"{name}: byte {place + error.start:,} is not UTF-8; save it as UTF-8") from error
    text = text if place else text.lstrip("\ufeff")
    return [line.rstrip("\r") for line in text.split("\n")]


def whole_lines(data: bytes, name: str) -> list[str]:
    """Split a whole file into its lines; without a newline, carriage returns end them."""
    data = data if b"\n" in data else data.replace(b"\r", b"\n")
    return lines(data.removesuffix(b"\n"), name)


def print_answers(asked: argparse.Namespace) -> None:
    """Print one line per text."""
    classifier, top = cache(Classifier), 3 if asked.top is None else asked.top
    is_typed = bool(asked.texts) and asked.texts != ["-"]
    count = empty = blank = 0
    for given in texts_of(asked):
        full = given if is_typed else [text for text in given if text.strip()]
        blank += len(given) - len(full)
        count += len(full)
        answers = classifier().answers(full, top) if full else []
        if is_typed and None in answers:
            raise SystemExit(f"the text {full[answers.index(None)]!r} has nothing in it to read")
        for text, answer in zip(full, answers, strict=True):
            empty += answer is None
            print(_json_line(text, answer) if asked.json else _line(text, answer))
        sys.stdout.flush()
    if not count:
        raise SystemExit(f"{asked.input or 'stdin'} has no text; write one per line")
    _note("blank lines skipped", blank)
    _note("empty texts after preprocessing, without a label", empty)


def _line(text: str, answer: Answer | None) -> str:
    cells = (cell for label, probability in answer or () for cell in (label, f"{probability:.4f}"))
    return "\t".join([" ".join(text.replace("\t", " ").replace("\r", " ").split("\n")), *cells])


def _json_line(text: str, answer: Answer | None) -> str:
    found = None
    if answer is not None:
        found = [{"label": label, "probability": probability} for label, probability in answer]
    return json.dumps({"text": text, "predictions": found}, ensure_ascii=False)


def _note(what: str, count: int) -> None:
    if count:
        print(f"{what}: {count:,}", file=sys.stderr)


def write_answers(asked: argparse.Namespace) -> None:
    """Add the most likely label and its probability to each row of a table."""
    import table_files

    out = Path(asked.output)
    if out.exists() and not asked.force:
        raise SystemExit(f"{out} is there already; choose another --output, or add --force to overwrite it")
    table_files.check_output(out)
    table = table_files.read_table(Path(asked.input))
    columns = _columns(asked.column, table.columns)
    texts = [table.text(row, columns) for row in table.rows]
    names = table.new_columns()
    classifier, empty = Classifier(), 0
    for start in range(0, len(texts), CHUNK):
        answers = classifier.answers(texts[start : start + CHUNK], top=1)
        for (_, row), answer in zip(table.rows[start : start + CHUNK], answers, strict=True):
            empty += answer is None
            label, probability = answer[0] if answer else (None, None)
            row |= {names[0]: label, names[1]: None if probability is None else round(probability, 6)}
    table.write(out, [*table.columns, *names])
    _note("empty texts after preprocessing, without a label", empty)
    _note(f"texts cut after {classifier.longest or 0:,} tokens", classifier.cut)
    print(f"{out}: {len(texts):,} rows, with the columns {names[0]} and {names[1]} added")


def _columns(given: Sequence[str] | None, columns: Sequence[str]) -> list[str]:
    """Return the columns of the text: those given, those of the training, or ``text``."""
    if given:
        return list(given)
    value = (read("export.json")["plugins"].get("task") or {}).get("text_column", "text")
    trained = [str(name) for name in (value if isinstance(value, list) else [value])]
    return ["text"] if "text" in columns and not set(trained) <= set(columns) else trained


def main(arguments: Sequence[str]) -> None:
    """Run the command line."""
    asked = parsed(arguments)
    (write_answers if asked.table else print_answers)(asked)


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
