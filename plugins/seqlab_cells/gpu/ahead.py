"""What the compiler makes of the kernels, for an architecture that need not be at hand."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seqlab_cells.fused.library import Tail
from seqlab_cells.gpu.limits import padded, tile

_WORDS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_NUMBERS = ("batch", "time", "stride", "directions")
_INDEX = ("lengths", "order", "base")
_FLOATS = ("b_n", "h0", "c0", "h_end", "c_end", "kept_c", "dh_end", "dc_end", "start", "dh0", "dc0")


class Resources(NamedTuple):
    """What a kernel takes.

    Attributes:
        warps: of a program.
        registers: of a thread.
        spilled: bytes that a thread writes for want of registers.
        shared: bytes of a program's shared memory.
        tensor_cores: whether it multiplies on them.
    """

    warps: int
    registers: int
    spilled: int
    shared: int
    tensor_cores: bool


def resources(
    walk: str, tail: Tail, hidden: int, dtype: torch.dtype, *, precision: str = "ieee", save: str = "gates",
    ragged: bool = True, capability: int = 90,
) -> Resources:  # fmt: skip
    """Compile one of the walks to machine code, without a device.

    Args:
        walk: ``forward`` or ``backward``.
        tail: the cell.
        hidden: its units.
        dtype: the type of number.
        precision: how float32 meets float32: ``ieee`` or ``tf32``.
        save: what is kept for the gradient, or ``none``.
        ragged: whether rows have lengths.
        capability: the architecture, as 90 for 9.0.
    """
    from seqlab_cells.gpu.backward import backward
    from seqlab_cells.gpu.forward import forward

    kernel: Any = {"forward": forward, "backward": backward}[walk]
    rows, warps = tile(tail, hidden, dtype, precision, back=walk == "backward")
    constants = {
        "TAIL": tail.name, "GATES": tail.gates, "H": hidden, "BH": padded(hidden), "BM": rows, "RAGGED": ragged,
        "PRECISION": precision,
    }  # fmt: skip
    if walk == "forward":
        constants |= {"KEEP_C": tail.leaves == 2 and save != "none", "KEEP_GATES": tail.kept > 0 and save == "gates"}
    else:
        constants["HAS_DY"] = True
    kinds = {
        name: "constexpr" if name in constants else _kind(name, tail, dtype, ragged=ragged) for name in kernel.arg_names
    }
    return compiled(kernel, kinds, constants, warps, capability)


def _kind(name: str, tail: Tail, dtype: torch.dtype, *, ragged: bool) -> str:
    """Say of which type an argument of a walk is."""
    if name in _NUMBERS:
        return "i32"
    if name in _INDEX:
        return "*i64" if ragged else "*fp32"
    if name in _FLOATS or (name == "earlier" and tail.leaves == 2):
        return "*fp32"
    return f"*{_WORDS[dtype]}"


def scan_resources(name: str, dtype: torch.dtype, *, turned: bool = False, capability: int = 90) -> Resources:
    """Compile a kernel of :mod:`.linear_scan`, by name."""
    from seqlab_cells.gpu import linear, linear_scan

    kernel: Any = getattr(linear_scan, name)
    constants = {"TURNED": turned, "BT": linear.STEPS, "BN": linear.COLUMNS}
    floats = ("product", "added", "start")

    def kind(argument: str) -> str:
        if argument in constants:
            return "constexpr"
        if argument in ("time", "columns", "span"):
            return "i32"
        return "*fp32" if argument in floats else f"*{_WORDS[dtype]}"

    return compiled(kernel, {each: kind(each) for each in kernel.arg_names}, constants, 1, capability)


def compiled(
    kernel: Any, signature: dict[str, str], constants: dict[str, Any], warps: int, capability: int
) -> Resources:
    """Compile any kernel; pointers are taken to be aligned."""
    import triton  # type: ignore[import-untyped]  # it has no types
    from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped]  # it has no types
    from triton.compiler import ASTSource  # type: ignore[import-untyped]  # it has no types

    aligned = {(k,): [["tt.divisibility", 16]] for k, name in enumerate(signature) if signature[name].startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    told = _assembled(made.asm["ptx"], capability)
    found = re.search(r"Used (\d+) registers", told)
    spilled = re.search(r"(\d+) bytes spill stores", told)
    if found is None or spilled is None:
        raise RuntimeError(f"ptxas tells nothing of its resources: {told[:300]}")
    uses = re.search(r"\b(wgmma|mma\.sync)", made.asm["ptx"]) is not None
    return Resources(warps, int(found[1]), int(spilled[1]), made.metadata.shared, uses)


def _assembled(ptx: str, capability: int) -> str:
    """Run ``ptxas``, which comes with Triton, for what it has to say."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx, "utf-8")
        target = f"sm_{capability}{'a' if capability >= 90 else ''}"
        command = [str(assembler()), "-v", f"-arch={target}", str(source), "-o", str(Path(folder, "kernel.cubin"))]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def assembler() -> Path:
    """Say where Triton has its ``ptxas``.

    Raises:
        FileNotFoundError: it has none.
    """
    import triton

    path = Path(triton.__file__).with_name("backends") / "nvidia" / "bin" / "ptxas"
    if not path.is_file():
        raise FileNotFoundError(f"Triton came without {path.name}")
    return path
