"""Registers, spills and shared memory of the GPU kernels, as compiled. Needs no GPU.

python benchmarks/gpu_resources.py --capability 90
"""

import argparse

import gpu_compile
import torch
from budget import table

from seqlab_cells.gpu import limits
from seqlab_cells.weights import EPILOGUES

KINDS = {
    "bfloat16": (torch.bfloat16, "ieee"), "float16": (torch.float16, "ieee"), "tf32": (torch.float32, "tf32"),
    "float32": (torch.float32, "ieee"),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--capability", type=int, default=90, help="the architecture, 90 for 9.0 (%(default)s)")
    parser.add_argument("--hidden", default="64,128", help="sizes (%(default)s)")
    parser.add_argument("--kinds", default="bfloat16,tf32,float32", help="dtypes (%(default)s)")
    parser.add_argument("--epilogues", default="Lstm,Gru,RnnTanh", help="cells (%(default)s)")
    asked = parser.parse_args()
    rows = []
    for epilogue in (EPILOGUES[name] for name in asked.epilogues.split(",")):
        for hidden in map(int, asked.hidden.split(",")):
            for kind in asked.kinds.split(","):
                dtype, precision = KINDS[kind]
                if limits.too_large(epilogue, hidden, dtype):
                    continue
                for way in ("forward", "backward"):
                    options = {"precision": precision, "capability": asked.capability}
                    found = gpu_compile.resources(way, epilogue, hidden, dtype, **options)
                    row = {"epilogue": epilogue.name, "hidden": hidden, "kind": kind, "pass": way, **found._asdict()}
                    rows.append({**row, "shared": found.shared // 1024})
                    print(row, flush=True)
    print(table({key: key for key in rows[0]} | {"shared": "shared KiB"}, rows))


if __name__ == "__main__":
    main()
