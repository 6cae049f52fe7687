"""``predict RUN_DIR TEXT...``: ask a trained model."""

import argparse
import json
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.errors import UserError


def main(arguments: list[str]) -> int:
    """Print the likeliest answers for each text."""
    parser = argparse.ArgumentParser(
        "seqlab predict",
        description="Predict with a trained model. Texts come from the command line, or one a line from stdin.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the folder that a run wrote")
    parser.add_argument("texts", metavar="TEXT", nargs="*")
    parser.add_argument("--top", type=int, default=3, help="answers for each text (3)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args(arguments)
    if asked.top < 1:
        raise UserError(f"--top is {asked.top}; it must be at least 1")

    from seqlab.training.trained import load

    trained = load(asked.run_dir)
    texts = asked.texts or [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    answers = trained.predict(texts, top=asked.top)
    if asked.json:
        for text, answer in zip(texts, answers, strict=True):
            print(json.dumps({"text": text, "predictions": answer}, ensure_ascii=False))
        return 0
    table = Table("text", *(f"{place}." for place in range(1, asked.top + 1)))
    for text, answer in zip(texts, answers, strict=True):
        table.add_row(escape(text), *(f"{escape(str(a['label']))} {a['probability']:.2f}" for a in answer))
    Console().print(table)
    return 0
