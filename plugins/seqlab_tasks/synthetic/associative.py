"""Tasks of selection and recall: multi-query associative recall, selective copying, induction heads."""

from typing import Any, final

import torch
from torch import Generator, Tensor

from seqlab.errors import check_range
from seqlab_tasks.synthetic.generated import MAX_SIZE, Labelled, another, integers, letters, token_dtype
from seqlab_tasks.synthetic.stepwise import MASKED, StepLabelled


def distinct(count: int, size: int, of: int, generator: Generator) -> Tensor:
    """Sample different integers from 0 to ``of - 1`` for each row, ``[count, size]``, in random order.

    Floyd's algorithm: the :math:`i`-th integer is uniform up to ``of - size + i``, and this bound itself if it was
    drawn before (Bentley & Floyd 1987, "A sample of brilliance").
    """
    found = torch.full((count, size), -1)
    for index in range(size):
        bound = of - size + index
        drawn = integers(0, bound, (count, 1), generator)
        found[:, index : index + 1] = torch.where((found == drawn).any(1, keepdim=True), bound, drawn)
    return found.gather(1, torch.rand(count, size, generator=generator).argsort(1))


@final
class MQAR(StepLabelled):
    r"""Look up the values of several keys: multi-query associative recall (Arora et al. 2023, arXiv 2312.04927).

    .. math:: k_1 v_1 \, k_2 v_2 … k_n v_n \; … \; k_{q_1} \; … \; k_{q_2} \; …, \quad
              y = v_{q_i} \text{ at the step of } k_{q_i}

    All keys differ, and so do all values. After the pairs, each key is asked for once. The queries begin slots of two
    steps, drawn without replacement with probability proportional to :math:`i^{a - 1}`, which puts most of them into
    the first slots, as repeated bigrams of text stand near their first occurrence. Only queries have a label. The
    baseline is one in the number of values.

    The definition is that of the public code (HazyResearch/zoology, ``multiquery_ar``). Here the labels are the values
    instead of the whole vocabulary, and the steps without a query hold random values instead of random tokens, so that
    a key after the pairs is always a query. The paper varies lengths from 64 to 512 and pairs from 4 to 64, with a
    vocabulary of 8,192 (the default there).

    Args:
        sequence_length: all steps :math:`T`, including the pairs; at least 4 times ``pairs``.
        pairs: number of pairs, and of queries, :math:`n`.
        vocabulary: number of token ids, including the padding: the lower half are keys, the upper half values; at least
            2 more than twice ``pairs``.
        power: exponent :math:`a` of the slots of queries; 1 is uniform.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self, sequence_length: int = 64, pairs: int = 4, vocabulary: int = 64, power: float = 0.01, **common: Any
    ) -> None:
        check_range("pairs", pairs, 1, MAX_SIZE)
        self.shortest = 4 * pairs
        given = (("sequence_length", sequence_length), *(("eval_lengths", n) for n in common.get("eval_lengths", ())))
        for name, length in given:
            if length < self.shortest:
                raise ValueError(f"{name} must be >= {self.shortest} with pairs={pairs}, got {length}")
        super().__init__(sequence_length, **common)
        check_range("vocabulary", vocabulary, 2 * pairs + 2, MAX_SIZE)
        check_range("power", power, above=0)
        self.pairs, self.vocabulary, self.power = pairs, vocabulary, power
        self._half = vocabulary // 2
        self.labels = [f"v{value}" for value in range(vocabulary - self._half)]
        self.symbols = [*(f"k{key}" for key in range(self._half - 1)), *self.labels]

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length]``."""
        end, values = 2 * self.pairs, self.vocabulary - self._half
        inputs = integers(self._half, self.vocabulary - 1, (count, length), generator, token_dtype(self.vocabulary - 1))
        keys = 1 + distinct(count, self.pairs, self._half - 1, generator)
        inputs[:, 0:end:2] = keys.to(inputs.dtype)
        inputs[:, 1:end:2] = (self._half + distinct(count, self.pairs, values, generator)).to(inputs.dtype)
        slots = (length - end) // 2
        # The largest of log p + Gumbel noise are a sample without replacement, in the order of drawing.
        uniform = torch.rand(count, slots, generator=generator, dtype=torch.float64)
        weight = (self.power - 1) * torch.arange(1, slots + 1, dtype=torch.float64).log()
        chosen = (weight - (-uniform.log()).log()).topk(self.pairs, dim=1).indices
        return inputs.scatter_(1, end + 2 * chosen, keys.to(inputs.dtype))

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the value of each query at its step, ``[count, length]``."""
        end = 2 * self.pairs
        keys, order = inputs[:, 0:end:2].long().sort(1)
        values = inputs[:, 1:end:2].long().gather(1, order) - self._half
        later = inputs[:, end:].long()
        found = torch.searchsorted(keys, later.contiguous()).clamp(max=self.pairs - 1)
        targets = torch.full(inputs.shape, MASKED)
        targets[:, end:] = torch.where(later < self._half, values.gather(1, found), MASKED)
        return targets

    def relevant(self, inputs: Tensor) -> Tensor:
        """The pairs and the queries."""
        return (torch.arange(inputs.shape[1]) < 2 * self.pairs) | (inputs < self._half)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace values, and ask for the next pair; the keys of pairs stay."""
        end = 2 * self.pairs
        least, most = self._half, self.vocabulary - 1
        new = another(inputs.clamp(min=least), least, most, generator).to(inputs.dtype)
        keys = inputs[:, 0:end:2]
        which = (inputs.unsqueeze(2) == keys.unsqueeze(1)).long().argmax(2)
        queries = keys.gather(1, (which + 1) % self.pairs)
        new = torch.where(inputs < least, queries, new)
        new[:, 0:end:2] = keys
        return torch.where(where, new, inputs)


@final
class SelectiveCopying(StepLabelled):
    r"""Write the symbols that stood at random positions among noise, in their order.

    .. math:: \text{input: } \_ \; s_1 \; \_ \, \_ \; s_2 \; \_ … s_n \; \_ \; :^n, \quad
              \text{target: } \text{none}^T \; s_1 … s_n

    The task of Gu & Dao 2023 ("Mamba", arXiv 2312.00752, section 4.1.1), before the denoising task of Jing et al. 2019:
    unlike in :class:`Copying`, knowing the time is not enough. Their setting (appendix E.1) is 16 symbols to memorise,
    a vocabulary of 16 including the noise, and 4,096 steps: ``sequence_length=4096``. The generator is not public; of
    the vocabulary one is the noise here, and one the mark after which to write, as in the copying data of S4 (public
    code: state-spaces/s4). The positions are uniform; the baseline is one in the number of symbols.

    Args:
        sequence_length: steps :math:`T` that hold the symbols and the noise; at least ``copied``. The sequence has
            :math:`T + n` steps.
        copied: number of symbols to write :math:`n`.
        vocabulary: kinds of symbols, plus 2 for the noise and the mark; at least 4.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, sequence_length: int = 64, copied: int = 16, vocabulary: int = 16, **common: Any) -> None:
        check_range("copied", copied, 1, MAX_SIZE)
        self.shortest = copied
        super().__init__(sequence_length, **common)
        check_range("vocabulary", vocabulary, 4, MAX_SIZE)
        self.copied, self.vocabulary = copied, vocabulary
        self.labels = letters(vocabulary - 2)
        self.symbols = [*self.labels, "_", ":"]

    def labelled(self, steps: int) -> int:
        """Return the number of symbols to write."""
        return self.copied

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length + copied]``."""
        noise = self.vocabulary - 1
        inputs = torch.full((count, length + self.copied), noise, dtype=token_dtype(noise + 1))
        inputs[:, length:] = noise + 1
        drawn = integers(1, noise - 1, (count, self.copied), generator, inputs.dtype)
        return inputs.scatter_(1, distinct(count, self.copied, length, generator), drawn)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the symbols at the marks, ``[count, steps]``."""
        targets = torch.full(inputs.shape, MASKED)
        symbols = inputs[inputs < self.vocabulary - 1].view(len(inputs), self.copied)
        targets[:, -self.copied :] = symbols.long() - 1
        return targets

    def relevant(self, inputs: Tensor) -> Tensor:
        """The symbols."""
        return inputs < self.vocabulary - 1

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace symbols; noise and marks stay."""
        most = self.vocabulary - 2
        new = another(inputs.clamp(max=most), 1, most, generator).to(inputs.dtype)
        return torch.where(where & (inputs <= most), new, inputs)


@final
class InductionHeads(Labelled):
    r"""Return the symbol that followed a mark, when the mark comes again.

    .. math::
        u_1 … u_{p-1} \; : \; s \; u_{p+2} … u_{T-1} \; :, \quad y = s, \quad p \sim \mathrm{Uniform}\{1, …, T - 2\}

    The task of Gu & Dao 2023 ("Mamba", arXiv 2312.00752, section 4.1.2), after Olsson et al. 2022: 256 steps and a
    vocabulary of 16 in training, up to :math:`2^{20}` steps in the test (``eval_multiples``). The position of the mark
    and all symbols are uniform; the mark is one of the vocabulary. The baseline is one in the number of symbols.

    Args:
        sequence_length: all steps :math:`T`; at least 3.
        vocabulary: kinds of symbols, plus 1 for the mark; at least 3.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    shortest = 3

    def __init__(self, sequence_length: int = 256, vocabulary: int = 16, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("vocabulary", vocabulary, 3, MAX_SIZE)
        self.vocabulary = vocabulary
        self.labels = letters(vocabulary - 1)
        self.symbols = [*self.labels, ":"]

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length]``."""
        inputs = integers(1, self.vocabulary - 1, (count, length), generator, token_dtype(self.vocabulary))
        inputs.scatter_(1, integers(0, length - 3, (count, 1), generator), self.vocabulary)
        inputs[:, -1] = self.vocabulary
        return inputs

    def _place(self, inputs: Tensor) -> Tensor:
        """Return the position after the first mark, ``[count, 1]``."""
        return 1 + (inputs == self.vocabulary).long().argmax(1, keepdim=True)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the symbol after the first mark, ``[count]``."""
        return inputs.gather(1, self._place(inputs)).squeeze(1).long() - 1

    def relevant(self, inputs: Tensor) -> Tensor:
        """The symbol after the first mark."""
        return torch.arange(inputs.shape[1]) == self._place(inputs)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace symbols; the marks stay."""
        most = self.vocabulary - 1
        new = another(inputs.clamp(max=most), 1, most, generator).to(inputs.dtype)
        return torch.where(where & (inputs <= most), new, inputs)
