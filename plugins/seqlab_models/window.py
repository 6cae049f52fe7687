"""Feed-forward neural language model over the last tokens."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from seqlab import Batch, InputSpec, Model
from seqlab.errors import check_range
from seqlab_models.inputs import with_history


@final
class WindowModel(Model):
    r"""Feed-forward neural language model (Bengio et al. 2003, section 2).

    With :math:`n` = ``context`` and :math:`C(u)` the learned embedding of a token,

    .. math::
        x_t = [C(u_{t-n+1}); …; C(u_t)], \quad y_t = \tanh(H x_t + d), \quad o_t = \mathrm{head}(y_t).

    ``direct`` adds the paper's direct connections: the head then reads :math:`[y_t; x_t]`, and a linear one computes
    :math:`o_t = U y_t + W x_t + b`. Before the start of a stream is padding, whose embedding is zero. The order in the
    paper includes the predicted token: it is ``context`` + 1. One output per sequence is that of its last valid step,
    and depends only on the last ``context`` tokens.

    Args:
        inputs: token ids.
        head: returns the layer from features to outputs.
        per_step: one output per time step instead of one per sequence.
        context: number of input tokens, including the current one.
        embedding_size: features of a token's embedding.
        hidden_size: units of the hidden layer.
        direct: whether the head also reads the embeddings.
        dropout: probability of dropping an input feature of the head, in training.

    Raises:
        ValueError: an option is out of range, or the inputs are not tokens.
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
        sizes = {"context": context, "embedding_size": embedding_size, "hidden_size": hidden_size}
        for name, value in sizes.items():
            check_range(name, value, 1)
        check_range("dropout", dropout, 0, below=1)
        if inputs.kind != "tokens":
            raise ValueError(f"a window model needs tokens, got {inputs.kind}")
        self.context, self.direct, self.per_step = context, direct, per_step
        self.embedding = nn.Embedding(inputs.size, embedding_size, padding_idx=0)
        self.hidden = nn.Linear(context * embedding_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.head = head(hidden_size + direct * context * embedding_size)

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Return the outputs; the state is the last tokens of each row."""
        known, state = with_history(batch, state, self.context - 1)
        if not self.per_step:
            known = self._last(known, batch)
        # The oldest token first, each with all its features.
        windows = self.embedding(known).unfold(1, self.context, 1).transpose(2, 3).flatten(2)
        features = torch.tanh(self.hidden(windows))
        if self.direct:
            features = torch.cat([features, windows], dim=-1)
        outputs = self.head(self.dropout(features if self.per_step else features[:, 0]))
        return outputs, state if self.carries_state else None

    def _last(self, known: Tensor, batch: Batch) -> Tensor:
        """Return the input tokens of each row's last valid step, ``[batch, context]``."""
        rows, time = batch.inputs.shape
        lengths = known.new_full((rows,), time) if batch.lengths is None else batch.lengths
        known = torch.nn.functional.pad(known, (0, 1))  # a row without steps reads padding
        places = (lengths - 1).clamp(min=0).unsqueeze(1) + torch.arange(self.context, device=known.device)
        return known.gather(1, places)

    def state_size(self) -> int:
        """Return the number of tokens before the current one."""
        return self.context - 1
