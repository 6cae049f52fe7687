"""Cell of a card: its overrides, the hidden size that meets the budget, and layers of it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch

from seqlab._version import __version__
from seqlab.config.build import cell_factory
from seqlab.config.compose import compose
from seqlab.contracts import Cell, UserError
from seqlab.plugins.config import is_pinned, pinned_parts
from seqlab.plugins.registry import find
from seqlab.study.card.protocol import Protocol
from seqlab.study.card.spectrum import Spectrum, measure_spectrum
from seqlab.study.matching import SizedModel, nearest_size
from seqlab.sweeps.overrides import override_key

_SMALL = (8, 4, 2, 16, 32)
"""Hidden sizes tried for the spectrum, which is that of a small cell."""


@final
@dataclass(frozen=True)
class Subject:
    """A cell at the size of the budget.

    Attributes:
        name: on the command line.
        registered: name of the cell, which a name such as ``fused_gru`` pins to a kernel.
        options: overrides ``cell.KEY=VALUE``.
        hidden_size: ``None`` for a cell without one.
        parameters: of the model that the protocol sizes.
        state_size: numbers that a sequence carries from step to step.
        owner: distribution and version.
    """

    name: str
    registered: str
    options: tuple[str, ...]
    hidden_size: int | None
    parameters: int
    state_size: int
    owner: str
    make: Callable[..., Cell]

    @property
    def words(self) -> list[str]:
        """Overrides of its runs."""
        sized = [] if self.hidden_size is None else [f"cell.hidden_size={self.hidden_size}"]
        return [f"cell={self.name}", *self.options, *sized]

    @property
    def label(self) -> str:
        """Name and options."""
        return " ".join([self.name, *(option.removeprefix("cell.") for option in self.options)])

    def key(self, protocol: Protocol) -> str:
        """Return a hash of what decides its measurements on one machine."""
        parts = [protocol.digest, self.words, self.owner, __version__, str(torch.__version__)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    def layer(self, inputs: int) -> Cell:
        """Make a layer at the size of the budget."""
        return self.make(inputs, self.hidden_size)

    def spectrum(self) -> Spectrum | None:
        """Measure the spectrum of a small cell; ``None`` if its state is too large at every size."""
        for size in _SMALL if self.hidden_size is not None else (None,):
            try:
                if (found := measure_spectrum(partial(self.make, 8, size))) is not None:
                    return found
            except (UserError, ValueError):  # a size that the cell does not take
                continue
        return None


def choose_subject(name: str, options: Sequence[str], protocol: Protocol) -> Subject:
    """Choose the hidden size whose model has the number of parameters nearest to the protocol's.

    Raises:
        UserError: there is no such cell or option, or the size is given.
        hydra.errors.HydraException: the config cannot be composed.
    """
    for option in options:
        if not option.startswith("cell.") or "=" not in option:
            raise UserError(f"{option}: an option must be cell.KEY=VALUE")
        if override_key(option) == "cell.hidden_size":
            raise UserError(
                f"{option}: the protocol sets the size, by its budget of {protocol.parameters:,} parameters"
            )
    registered = pinned_parts(name)[0] if is_pinned(name) else name
    plugin = find("cell", registered)
    sized = SizedModel(compose([*protocol.words, *protocol.size, f"cell={name}", *options]))
    size = sized.hidden_size
    if size is not None:
        size = nearest_size(lambda each: sized.count("parameters", each), protocol.parameters)

    def make(inputs: int, hidden_size: int | None) -> Cell:
        node: dict[str, Any] = dict(sized.plain["cell"])
        if hidden_size is not None:
            node["hidden_size"] = hidden_size
        return cell_factory(node, sized.task)(inputs)

    return Subject(
        name,
        registered,
        tuple(options),
        size,
        sized.count("parameters", size),
        sized.count("state", size),
        f"{plugin.distribution} {plugin.version}",
        make,
    )
