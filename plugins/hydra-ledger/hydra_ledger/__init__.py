"""Ledger of Hydra's sweeps: identity, job numbers, states, and resumption."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Entry", "Hooks", "LedgerCallback", "LedgerError", "Records", "__version__"]

_HOMES = {
    "LedgerCallback": "callback",
    "LedgerError": "errors",
    "Entry": "records",
    "Hooks": "records",
    "Records": "records",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is used, as not every user of a part needs Hydra."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
