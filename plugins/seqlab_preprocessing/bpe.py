"""One token for each frequent piece of a word."""

from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np
import torch

from seqlab import Ragged
from seqlab.errors import check_range
from seqlab_preprocessing.bytepairs import ALPHABET, Encoder, Merge, pieces_of, train, well_formed
from seqlab_preprocessing.chain import Chain
from seqlab_preprocessing.optional import needed
from seqlab_preprocessing.pipeline import FIRST, UNKNOWN_SYMBOL, Pipeline

_BATCH = 1 << 20  # characters whose new pieces are encoded together


@final
class BPE(Pipeline):
    """Byte-level byte-pair encoding (Hugging Face tokenizers): any text has ids, and comes back exactly.

    From the 256 bytes on, training joins the most frequent pair of neighbours within a word, again and again (Sennrich
    et al. 2016; on bytes, as in GPT-2). Ids: 0 padding, 1 unknown, which no text has, then the bytes, then what was
    joined, in its order. Texts are not normalised; a lone surrogate, which UTF-8 cannot hold, becomes U+FFFD. Words of
    more than 1,000 characters are cut.

    Args:
        steps: what is done to each text first, in this order: names of plugins in the entry-point group
            ``seqlab.steps``, such as ``nfc``.
        vocabulary_size: how many token ids there are at most, padding and unknown included; at least 258.

    Raises:
        ValueError: ``vocabulary_size`` is too small, or a step is no function.
        UserError: there is no such step, or tokenizers is not installed.
    """

    def __init__(self, steps: Sequence[str] = (), vocabulary_size: int = 8_000) -> None:
        check_range(at_least=FIRST + len(ALPHABET), vocabulary_size=vocabulary_size)
        needed("tokenizers", "preprocessing=bpe")
        super().__init__(Chain(steps, nfc=False))
        self.vocabulary_size = vocabulary_size
        self._pieces: list[bytes] = []
        self._encoder = Encoder([], FIRST)

    def fit(self, texts: Iterable[str]) -> None:
        """Learn which pairs to join; reads the texts once, and keeps only how often each word occurs.

        Raises:
            ValueError: there is no text.
        """
        self._learn(train(map(well_formed, self.cleaned(texts)), self.vocabulary_size - FIRST))

    def _learn(self, merges: Sequence[Merge]) -> None:
        self._encoder = Encoder(merges, FIRST)
        self._pieces = [b"", "\ufffd".encode(), *(bytes(ALPHABET[sign] for sign in one) for one in pieces_of(merges))]

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Encode the words, each of them once as long as it is remembered, and put their ids together."""
        self._check_fitted()
        ids: list[bytes] = []
        batch: list[str] = []
        size = 0
        for text in map(well_formed, self.cleaned(texts)):
            batch.append(text)
            size += len(text)
            if size > _BATCH:
                ids += self._encoder.encode(batch)
                batch, size = [], 0
        ids += self._encoder.encode(batch)
        lengths = torch.tensor([len(one) // 8 for one in ids], dtype=torch.int64)
        return Ragged(torch.from_numpy(np.frombuffer(bytearray().join(ids), np.int64)), lengths)

    def decode(self, ids: Sequence[int]) -> str:
        """Give back the text of token ids; bytes that are no UTF-8, as at a cut within a character, show as U+FFFD.

        Raises:
            ValueError: an id is none of this vocabulary's.
        """
        return b"".join(self._pieces[index] for index in self._known(ids).tolist()).decode("utf-8", "replace")

    @property
    def symbols(self) -> tuple[str, ...]:
        r"""What each token id stands for: nothing, ``<unk>``, and pieces, parts of a character as ``\xe1``."""
        self._check_fitted()
        return "", UNKNOWN_SYMBOL, *(piece.decode("utf-8", "backslashreplace") for piece in self._pieces[FIRST:])

    def _count(self) -> int:
        return len(self._pieces)

    def state_dict(self) -> dict[str, Any]:
        """Give the pairs that are joined, in their order, one sign a byte: ``{"merges": [["t", "h"], ...]}``."""
        self._check_fitted()
        return {"merges": [list(merge) for merge in self._encoder.merges]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            ValueError: these are no pairs that training can have joined.
        """
        if not isinstance(state, dict) or set(state) != {"merges"} or not isinstance(state["merges"], list):
            raise ValueError("the state of bpe must have merges, a list, and nothing else")
        known = set(ALPHABET)
        merges: list[Merge] = []
        for merge in state["merges"]:
            pair = isinstance(merge, list) and len(merge) == 2 and all(isinstance(part, str) for part in merge)
            if not pair or not known.issuperset(merge):
                raise ValueError(f"merges has {merge!a}, which is no pair of pieces known before it")
            merges.append((merge[0], merge[1]))
            known.add(merge[0] + merge[1])
        if len({*merges}) != len(merges):
            raise ValueError("merges has a pair twice")
        self._learn(merges)
