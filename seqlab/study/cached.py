"""Language models of the library transformers as three functions, by their cache of states."""

import copy
import inspect
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from seqlab.errors import UserError
from seqlab.study.steps import named_tensors, read

_CACHES = ("cache", "cache_params", "past_key_values", "state")
"""Names of the argument and output that hold the state, by version of the library."""


@final
class CachedModel:
    """A causal language model of transformers, read token by token (:class:`seqlab.study.steps.StepModel`).

    The state is the model's cache and the tensors that its modules keep between calls. Each step reads a copy, so that
    changes in place touch no earlier state; features are the logits.

    Args:
        model: such as ``MambaForCausalLM``; in evaluation mode. What its modules keep is overwritten.

    Raises:
        UserError: its ``forward`` takes no cache, or its steps do not give the outputs of the whole sequence.
    """

    def __init__(self, model: nn.Module) -> None:
        known = inspect.signature(model.forward).parameters
        name = next((name for name in _CACHES if name in known), None)
        if name is None:
            raise UserError(
                f"{type(model).__name__}.forward takes none of {', '.join(_CACHES)}: it has no states to carry"
            )
        self.model, self._name = model, name
        self._fresh = self._kept()
        self._is_batched = True
        alone, together = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 1], [1, 0, 0]])
        if not self._equals_whole(alone):
            raise UserError(f"{type(model).__name__}: its outputs token by token are not those of the whole sequence")
        self._is_batched = self._equals_whole(together)

    @torch.no_grad()
    def _equals_whole(self, ids: Tensor) -> bool:
        """Return whether the steps of some rows give the logits of one call without a cache."""
        ids = ids.to(next(self.model.parameters()).device)
        steps = read(self, ids)
        whole = self.model(input_ids=ids, use_cache=False).logits
        return bool(torch.allclose(steps, whole, rtol=1e-2, atol=1e-2 * float(whole.abs().max())))

    def initial(self, rows: int) -> Mapping[str, Any]:
        """Return a state without a cache; the model makes one for its first token.

        Raises:
            UserError: the model mixes the rows of a batch when it reads single tokens (RWKV in transformers 5.24).
        """
        if rows > 1 and not self._is_batched:
            raise UserError(f"{type(self.model).__name__} mixes the rows of a batch token by token: pass one row")
        return {"cache": None, "modules": dict(self._fresh)}

    def step(self, x: Tensor, state: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, Any]]:
        """Read one token of each row, ``[rows]``; return the logits ``[rows, outputs]`` and the new state."""
        found, cache = self._call(x, state)
        if cache is None and state["cache"] is None:  # a model that makes no cache of its own
            from transformers import DynamicCache

            found, cache = self._call(x, {**state, "cache": DynamicCache(config=self.model.config)})
        return found.logits[:, -1], {"cache": cache, "modules": self._kept()}

    def _call(self, x: Tensor, state: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the output of the model and its cache, the one passed if the output has none."""
        clones = {id(tensor): tensor.clone() for _, tensor in named_tensors(state)}
        cache, kept = copy.deepcopy((state["cache"], state["modules"]), clones)
        for name, value in kept.items():
            module, _, attribute = name.rpartition(".")
            setattr(self.model.get_submodule(module), attribute, value)
        found = self.model(input_ids=x.unsqueeze(1), use_cache=True, **{self._name: cache})
        returned = getattr(found, self._name, None)
        return found, cache if returned is None else returned

    def logits(self, features: Tensor) -> Tensor:
        """Return the features, which are logits."""
        return features

    def _kept(self) -> dict[str, Tensor | None]:
        """Return the tensors, or ``None`` in the place of one, that modules keep as plain attributes of a state."""
        return {
            f"{path}.{name}" if path else name: value
            for path, module in self.model.named_modules()
            for name, value in vars(module).items()
            if name.endswith(("state", "states")) and (value is None or isinstance(value, Tensor))
        }
