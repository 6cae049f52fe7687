"""Resources of the compiled kernels, for any architecture, without a device."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seqlab_cells.gpu.limits import padded, tile
from seqlab_cells.weights import Epilogue

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_NUMBERS = ("batch", "time", "directions")
_INDEX = ("lengths", "order", "base")
_FLOATS = ("b_n", "h0", "c0", "h_end", "c_end", "kept_c", "dh_end", "dc_end", "start", "dh0", "dc0")


class Resources(NamedTuple):
    """Resources of a kernel.

    Attributes:
        warps: of a program.
        registers: of a thread.
        spilled: bytes that a thread spills.
        shared: bytes of a program's shared memory.
        tensor_cores: whether it uses them.
    """

    warps: int
    registers: int
    spilled: int
    shared: int
    tensor_cores: bool


def resources(
    direction: str, epilogue: Epilogue, hidden: int, dtype: torch.dtype, *, precision: str = "ieee",
    save: str = "gates", ragged: bool = True, capability: int = 90,
) -> Resources:  # fmt: skip
    """Compile a kernel of :mod:`.scan` to machine code.

    Args:
        direction: ``forward`` or ``backward``.
        epilogue: the cell.
        hidden: its units.
        dtype: the dtype.
        precision: how float32 is multiplied: ``ieee`` or ``tf32``.
        save: what is kept for the gradient, or ``none``.
        ragged: whether rows have lengths.
        capability: the architecture, as 90 for 9.0.
    """
    from seqlab_cells.gpu import scan

    kernel: Any = getattr(scan, direction)
    rows, warps = tile(epilogue, hidden, dtype, precision, back=direction == "backward")
    constants = {
        "EPILOGUE": epilogue.name, "GATES": epilogue.gates, "H": hidden, "BH": padded(hidden), "BM": rows,
        "RAGGED": ragged, "PRECISION": precision,
    }  # fmt: skip
    if direction == "forward":
        constants |= {
            "KEEP_C": epilogue.states == 2 and save != "none",
            "KEEP_GATES": epilogue.kept > 0 and save == "gates",
        }
    else:
        constants["HAS_DY"] = True
    kinds = {
        name: "constexpr" if name in constants else _kind(name, epilogue, dtype, ragged=ragged)
        for name in kernel.arg_names
    }
    return compiled(kernel, kinds, constants, warps, capability)


def _kind(name: str, epilogue: Epilogue, dtype: torch.dtype, *, ragged: bool) -> str:
    """Return the type of an argument."""
    if name in _NUMBERS:
        return "i32"
    if name in _INDEX:
        return "*i64" if ragged else "*fp32"
    if name in _FLOATS or (name == "earlier" and epilogue.states == 2):
        return "*fp32"
    return f"*{_NAMES[dtype]}"


def linear_resources(name: str, dtype: torch.dtype, *, backward: bool = False, capability: int = 90) -> Resources:
    """Compile a kernel of :mod:`.linear`, by name."""
    from seqlab_cells.gpu import linear

    kernel: Any = getattr(linear, name)
    constants = {"REVERSED": backward, "BT": linear.STEPS, "BN": linear.COLUMNS}
    floats = ("product", "added", "start")

    def kind(argument: str) -> str:
        if argument in constants:
            return "constexpr"
        if argument in ("time", "columns", "span"):
            return "i32"
        return "*fp32" if argument in floats else f"*{_NAMES[dtype]}"

    return compiled(kernel, {each: kind(each) for each in kernel.arg_names}, constants, 1, capability)


def compiled(
    kernel: Any, signature: dict[str, str], constants: dict[str, Any], warps: int, capability: int
) -> Resources:
    """Compile any kernel, its pointers assumed to be aligned."""
    import triton  # type: ignore[import-untyped]  # it has no types
    from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped]  # it has no types
    from triton.compiler import ASTSource  # type: ignore[import-untyped]  # it has no types

    aligned = {(k,): [["tt.divisibility", 16]] for k, name in enumerate(signature) if signature[name].startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    report = _assembled(made.asm["ptx"], capability)
    found = re.search(r"Used (\d+) registers", report)
    spilled = re.search(r"(\d+) bytes spill stores", report)
    if found is None or spilled is None:
        raise RuntimeError(f"ptxas reports no resources: {report[:300]}")
    uses = re.search(r"\b(wgmma|mma\.sync)", made.asm["ptx"]) is not None
    return Resources(warps, int(found[1]), int(spilled[1]), made.metadata.shared, uses)


def _assembled(ptx: str, capability: int) -> str:
    """Return the report of ``ptxas``, which comes with Triton."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx, "utf-8")
        target = f"sm_{capability}{'a' if capability >= 90 else ''}"
        command = [str(assembler()), "-v", f"-arch={target}", str(source), "-o", str(Path(folder, "kernel.cubin"))]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def assembler() -> Path:
    """Return the path of Triton's ``ptxas``.

    Raises:
        FileNotFoundError: it has none.
    """
    import triton

    path = Path(triton.__file__).with_name("backends") / "nvidia" / "bin" / "ptxas"
    if not path.is_file():
        raise FileNotFoundError(f"Triton is installed without {path.name}")
    return path
