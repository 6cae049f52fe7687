"""``export RUN_DIR --format FORMAT``: a trained model as others can run it."""

from pathlib import Path

from seqlab.verbs.parser import Parser

FORMATS = ("torch-export", "onnx", "safetensors", "state-dict")


def main(arguments: list[str]) -> int:
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
