"""``generate RUN_DIR``: let a language model write."""

import argparse
import sys
from pathlib import Path

from seqlab.cli.parser import Parser, typed_text


def generate(arguments: list[str]) -> int:
    """Write to the terminal as the model draws."""
    asked = _asked(arguments)
    asked.prompt = typed_text(asked.prompt, "--prompt")
    from seqlab.inference.generation import generate
    from seqlab.inference.loading import load

    trained = load(asked.run_dir)
    pieces = generate(trained, asked.prompt, asked.length, asked.temperature, asked.top_k, asked.seed)
    first = next(pieces, "")  # what cannot be done is refused here, before anything is shown
    sys.stdout.write(asked.prompt + first)
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:  # enough was read
        pass
    sys.stdout.write("\n")
    return 0


def _asked(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "generate",
        description="Let a trained language model (task=lm) go on with a text. Ctrl-C stops it.",
        epilog="example: seqlab generate RUN_DIR --prompt 'def main(' --temperature 0.7",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the folder that a run of task=lm wrote")
    parser.add_argument("--prompt", default="", help="what the text begins with")
    parser.add_argument("--length", type=int, default=500, help="tokens to draw (%(default)s)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest always (%(default)s)")
    parser.add_argument("--top-k", type=int, help="draw among the so many likeliest only (all)")
    parser.add_argument("--seed", type=int, help="the same seed writes the same text (another one each time)")
    return parser.parse_args(arguments)


FORMATS = ("torch-export", "onnx", "safetensors", "state-dict")


def export(arguments: list[str]) -> int:
    """Write the folder, and say where it is and how far the file is from the run."""
    parser = Parser(
        "export",
        description="Write a trained model for others to run, with its labels, its preprocessing and a model card. The "
        "file takes padded inputs and lengths, of any number of rows and steps. It is compared with the run before the "
        "folder is put in its place.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the folder that a run wrote")
    parser.add_argument("--format", required=True, choices=FORMATS, help="onnx needs the extra seqlab[export]")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder to make (RUN_DIR/export/FORMAT)")
    asked = parser.parse_args(arguments)
    from seqlab.export.folder import export

    out, found = export(asked.run_dir, asked.format, asked.out)
    print(
        f"{out}: {found.batches} batches compared with the run, the largest difference is {found.difference:.1e}"
        f" (outputs up to {found.scale:.3g}); README.md there says how to call it"
    )
    return 0
