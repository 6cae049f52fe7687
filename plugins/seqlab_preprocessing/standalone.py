"""Preprocessing as Python files that need the standard library only, to travel with an exported model."""

import ast
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import FunctionType, ModuleType

from seqlab_preprocessing.pipeline import FIRST, PADDING, UNKNOWN
from seqlab_preprocessing.steps import nfc

_ENCODE = '''"""Texts to token ids, as in training; needs the standard library only."""

{imports}

STEPS = ({steps})
PADDING, UNKNOWN, FIRST = @@
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
'''.replace("@@", f"{PADDING}, {UNKNOWN}, {FIRST}")


def files(
    steps: Sequence[Callable[[str], str]],
    *,
    table: str,
    split: str,
    constants: Mapping[str, str] | None = None,
    by_line: bool = False,
    module: ModuleType | None = None,
    normalise: bool = True,
) -> dict[str, str] | None:
    """Return ``encode.py`` and a copy of each step's module.

    Args:
        steps: applied to each text.
        table: statement that assigns ``ids``, symbols to token ids, from ``state``.
        split: expression that splits ``text`` into symbols.
        constants: regular expressions that it needs, by name.
        by_line: whether steps see one line at a time.
        module: a module of the standard library alone, whose name replaces ``{}`` in ``table`` and ``split``.
        normalise: whether NFC comes first.

    Returns:
        The files by name; ``None`` where a step needs more than the standard library.
    """
    steps = [*([nfc] if normalise else []), *steps]
    copied = [copy for step in steps if (copy := _copy(step))]
    if len(copied) < len(steps):
        return None
    if module is not None:
        copied.append((module.__name__.replace(".", "_"), inspect.getsource(module)))
        table, split = (text.format(copied[-1][0]) for text in (table, split))
    encode = _ENCODE.format(
        imports="".join(f"import {place}\n" for place in [*(["re"] if constants else []), *dict(copied)]),
        steps="".join(f"{place}.{step.__name__}, " for (place, _), step in zip(copied, steps, strict=False)).strip(),
        constants="".join(f"{name} = re.compile({value!a})\n" for name, value in (constants or {}).items()),
        table=table,
        apply='"\\n".join(map(step, text.split("\\n")))' if by_line else "step(text)",
        split=split,
    )
    return {**{f"{place}.py": source for place, source in copied}, "encode.py": encode}


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
