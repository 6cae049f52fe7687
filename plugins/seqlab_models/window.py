"""A feed-forward network over the last tokens: the first neural language model."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from seqlab import Batch, InputSpec, Model
from seqlab.errors import check_range
from seqlab_models.history import extend


@final
class WindowModel(Model):
    r"""The feed-forward neural language model (Bengio et al. 2003, section 2).

    With :math:`n` = ``context`` and :math:`C(u)` the learned embedding of a token,

    .. math::
        x_t = [C(u_{t-n+1}); …; C(u_t)], \quad y_t = \tanh(H x_t + d), \quad o_t = \mathrm{head}(y_t).

    ``direct`` adds the paper's direct connections: the head then reads :math:`[y_t; x_t]`, and a linear one computes
    :math:`o_t = U y_t + W x_t + b`. Before the beginning of a stream stands the padding, whose embedding is zero. The
    paper's order counts the predicted token, too: it is ``context`` + 1. One output a sequence is that of its last
    valid step, so that nothing before the last ``context`` tokens can reach it.

    Args:
        inputs: token ids.
        head: makes the layer from features to outputs.
        per_step: one output for each time step, or one a sequence.
        context: how many tokens are seen, the current one included.
        embedding_size: features of a token's embedding.
        hidden_size: units of the hidden layer.
        direct: whether the head reads the embeddings, too.
        dropout: probability of dropping a feature that the head reads, in training.

    Raises:
        ValueError: an option is out of its range, or the task is not one for a window of tokens.
    """

    uses_cell = False

    def __init__(
        self,
        inputs: InputSpec,
        head: Callable[[int], nn.Module],
        per_step: bool,
        *,
        context: int = 4,
        embedding_size: int = 64,
        hidden_size: int = 128,
        direct: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_range(at_least=1, context=context, embedding_size=embedding_size, hidden_size=hidden_size)
        check_range(at_least=0, below=1, dropout=dropout)
        if inputs.kind != "tokens":
            raise ValueError(f"a window model embeds tokens, and this task's inputs are {inputs.kind}")
        self.context, self.direct, self.per_step = context, direct, per_step
        self.embedding = nn.Embedding(inputs.size, embedding_size, padding_idx=0)
        self.hidden = nn.Linear(context * embedding_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.head = head(hidden_size + direct * context * embedding_size)

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Compute the outputs, ``[batch, time, outputs]`` or ``[batch, outputs]``.

        Args:
            batch: token ids ``[batch, time]``; what stands in the padding is never seen.
            state: the last tokens of each row, as this method returned them; ``None`` to begin anew.

        Raises:
            ValueError: the state is another batch's.
        """
        known, state = extend(batch, state, self.context - 1)
        if not self.per_step:
            known = self._last(known, batch)
        # Oldest token first, each with all its features.
        windows = self.embedding(known).unfold(1, self.context, 1).transpose(2, 3).flatten(2)
        features = torch.tanh(self.hidden(windows))
        if self.direct:
            features = torch.cat([features, windows], dim=-1)
        outputs = self.head(self.dropout(features if self.per_step else features[:, 0]))
        return outputs, state if self.carries_state else None

    def _last(self, known: Tensor, batch: Batch) -> Tensor:
        """Keep the tokens that each row's last valid step sees, ``[batch, context]``."""
        rows, time = batch.inputs.shape
        lengths = known.new_full((rows,), time) if batch.lengths is None else batch.lengths
        known = torch.nn.functional.pad(known, (0, 1))  # the row without steps sees padding
        places = (lengths - 1).clamp(min=0).unsqueeze(1) + torch.arange(self.context, device=known.device)
        return known.gather(1, places)

    def state_size(self) -> int:
        """Count the tokens before the current one that are looked at."""
        return self.context - 1
