"""``generate`` and ``export``: text of a language model, and files for other programs."""

import sys

from seqlab.cli.parser import Parser, path, utf8


def generate(arguments: list[str]) -> int:
    """Print text as it is sampled."""
    parser = Parser(
        "generate",
        description="Continue a text with a trained language model (task=lm). Ctrl-C stops it.",
        epilog="example: seqlab generate RUN_DIR --prompt 'def main(' --temperature 0.7",
    )
    parser.add_run_dir()
    parser.add_argument(
        "--prompt", default="", type=utf8, help="text to continue; --prompt=TEXT if it starts with a dash"
    )
    parser.add_argument("--length", type=int, default=500, help="number of tokens to sample (%(default)s)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the most likely token (%(default)s)")
    parser.add_argument("--top-k", type=int, help="sample from the K most likely tokens (all)")
    parser.add_argument("--seed", type=int, help="makes the text reproducible (random)")
    args = parser.parse(arguments)
    from seqlab.inference import generate, load

    trained = load(args.run_dir)
    pieces = generate(trained, args.prompt, args.length, args.temperature, args.top_k, args.seed)
    first = next(pieces, "")  # raises errors before anything is printed
    sys.stdout.write(args.prompt + first)
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    sys.stdout.write("\n")
    return 0


FORMATS = ("torch-export", "onnx", "safetensors", "state-dict")


def export(arguments: list[str]) -> int:
    """Write the folder; print its path and the largest difference from the run."""
    parser = Parser(
        "export",
        description="Write a trained model for other programs, with its labels, its preprocessing and a model card. "
        "The model takes padded inputs and lengths, of any number of rows and steps. Its outputs are compared with "
        "those of the run before the folder is put in place.",
    )
    parser.add_run_dir()
    parser.add_argument("--format", required=True, choices=FORMATS, help="onnx needs the extra seqlab[export]")
    parser.add_argument("--out", type=path, metavar="DIR", help="folder to write (RUN_DIR/export/FORMAT)")
    args = parser.parse(arguments)
    from seqlab.export.folder import DESCRIPTION, export
    from seqlab.runs.run_folder import read_json

    out, found = export(args.run_dir, args.format, args.out)
    print(
        f"{out}: {found.batches} batches compared with the run, largest difference {found.difference:.1e}"
        f" (outputs up to {found.scale:.3g}); see README.md there"
    )
    if reason := read_json(out / DESCRIPTION).get("no_predict"):
        print(f"there is no predict.py: {reason}")
    return 0
