"""Preprocessing as Python files that need the standard library only, to travel with an exported model."""

import ast
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import FunctionType

from seqlab_preprocessing.pipeline import FIRST, PADDING, UNKNOWN
from seqlab_preprocessing.steps import nfc

_ENCODE = '''"""Texts to token ids, as in training; needs the standard library only."""

{imports}

STEPS = ({steps})
PADDING, UNKNOWN, FIRST = {padding}, {unknown}, {first}
{constants}

def encoder(state):
    """Return the function from a text to its list of token ids.

    Args:
        state: what fitting learned; "state" of preprocessor.json.
    """
    {table}

    def encode(text):
        """Apply the steps, then look up each symbol."""
        for step in STEPS:
            text = {apply}
        return [ids.get(symbol, UNKNOWN) for symbol in {split}]

    return encode
'''


def files(
    steps: Sequence[Callable[[str], str]],
    *,
    table: str,
    split: str,
    constants: Mapping[str, str] | None = None,
    by_line: bool = False,
) -> dict[str, str] | None:
    """Return ``encode.py`` and a copy of each step's module.

    Args:
        steps: applied to each text after NFC.
        table: statement that assigns ``ids``, a dict from symbols to token ids, from ``state``.
        split: expression that splits ``text`` into symbols.
        constants: regular expressions that it needs, by name.
        by_line: whether steps see one line at a time.

    Returns:
        The files by name; ``None`` where a step needs more than the standard library.
    """
    steps = [nfc, *steps]
    copied = [copy for step in steps if (copy := _copy(step))]
    if len(copied) < len(steps):
        return None
    written = {f"{module}.py": source for module, source in copied}
    modules = [module for module, _ in copied]
    names = [f"{module}.{step.__name__}" for module, step in zip(modules, steps, strict=True)]
    imports = [*(["re"] if constants else []), *dict.fromkeys(modules)]
    written["encode.py"] = _ENCODE.format(
        imports="".join(f"import {module}\n" for module in imports),
        steps=", ".join(names) + ",",
        padding=PADDING,
        unknown=UNKNOWN,
        first=FIRST,
        constants="".join(f"{name} = re.compile({value!a})\n" for name, value in (constants or {}).items()),
        table=table,
        apply='"\\n".join(map(step, text.split("\\n")))' if by_line else "step(text)",
        split=split,
    )
    return written


def _copy(step: Callable[[str], str]) -> tuple[str, str] | None:
    """Return a module's new name and source; ``None`` if it needs more than the standard library."""
    if not isinstance(step, FunctionType):
        return None
    source = inspect.getsource(import_module(step.__module__))
    return (step.__module__.replace(".", "_"), source) if _needs_standard_library_only(source) else None


def _needs_standard_library_only(source: str) -> bool:
    imported: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            imported.append("" if node.level else node.module or "")
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
    return all(name.partition(".")[0] in sys.stdlib_module_names for name in imported)
