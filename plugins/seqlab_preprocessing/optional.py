"""Packages that only some steps and tokenisers need."""

from functools import cache
from importlib import import_module
from typing import Any

from seqlab.errors import UserError


@cache
def needed(module: str, by: str) -> Any:
    """Import a module that may be missing.

    Args:
        module: its name.
        by: what needs it, as the config says it.

    Raises:
        UserError: its package is not installed; the message says how to install it.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise UserError(f"{by} needs {package}, which is not installed: pip install seqlab[text]") from None
