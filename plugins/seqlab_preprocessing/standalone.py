"""Preprocessing as Python files that need the standard library only, to travel with an exported model."""

import ast
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import FunctionType

from seqlab_preprocessing.pipeline import FIRST, PADDING, UNKNOWN

_OURS = "seqlab_preprocessing.steps."

_ENCODE = '''"""Texts to token ids, as in training; it needs the standard library only."""

{imports}

def _nfc(text):
    return unicodedata.normalize("NFC", text)


STEPS = ({steps})
PADDING, UNKNOWN, FIRST = {padding}, {unknown}, {first}
{constants}

def encoder(state):
    """Make the function from a text to its list of token ids.

    Args:
        state: what fitting learned; "state" of preprocessor.json.
    """
    {table}

    def encode(text):
        """Look up each symbol of a text, after its steps."""
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
    """Write ``encode.py`` and a file for each step's module.

    Args:
        steps: what is done to each text after NFC.
        table: the statement that makes ``ids``, a dict from symbols to token ids, of ``state``.
        split: the expression that cuts ``text`` into symbols.
        constants: regular expressions that it needs, by name.
        by_line: whether steps see one line at a time.

    Returns:
        The files by name; ``None`` where a step needs more than the standard library.
    """
    written: dict[str, str] = {}
    imports = ["import re", "import unicodedata"] if constants else ["import unicodedata"]
    for step in steps:
        if not isinstance(step, FunctionType) or not _add(step.__module__, written):
            return None
        imports.append(f"from {_file(step.__module__)} import {step.__name__}")
    names = ["_nfc", *(step.__name__ for step in steps)]
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


def _file(module: str) -> str:
    return f"step_{module.removeprefix(_OURS).replace('.', '_')}"


def _add(module: str, written: dict[str, str]) -> bool:
    """Take a module's source, and that of its neighbours which it imports; say whether that was possible."""
    name = f"{_file(module)}.py"
    if name in written:
        return True
    source = inspect.getsource(import_module(module))
    written[name] = source.replace(f"from {_OURS}", "from step_")
    for node in ast.walk(ast.parse(source)):
        wanted = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        wanted += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for one in wanted:
            if one.startswith(_OURS) and isinstance(node, ast.ImportFrom):
                if not _add(one, written):
                    return False
            elif one.partition(".")[0] not in sys.stdlib_module_names:
                return False
    return True
