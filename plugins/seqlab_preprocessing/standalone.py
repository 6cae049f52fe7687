"""Preprocessing as Python files that need the standard library only, to travel with an exported model."""

import ast
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import FunctionType

from seqlab_preprocessing.pipeline import FIRST, PADDING, UNKNOWN

_ENCODE = '''"""Texts to token ids, as in training; needs the standard library only."""

{imports}

def _nfc(text):
    return unicodedata.normalize("NFC", text)


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
    written: dict[str, str] = {}
    names = ["_nfc"]
    imports = ["import re", "import unicodedata"] if constants else ["import unicodedata"]
    for step in steps:
        if not isinstance(step, FunctionType):
            return None
        name = f"step_{step.__module__.rpartition('.')[2]}"
        source = inspect.getsource(import_module(step.__module__))
        if written.setdefault(f"{name}.py", source) != source or not _needs_standard_library_only(source):
            return None
        imports.append(f"import {name}")
        names.append(f"{name}.{step.__name__}")
    written["encode.py"] = _ENCODE.format(
        imports="\n".join(dict.fromkeys(imports)) + "\n",
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


def _needs_standard_library_only(source: str) -> bool:
    imported: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            imported.append("" if node.level else node.module or "")
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
    return all(name.partition(".")[0] in sys.stdlib_module_names for name in imported)
