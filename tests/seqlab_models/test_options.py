"""Options of the models that are out of range or do not suit the task."""

import re
from functools import partial

import pytest
from torch import nn

from seqlab import InputSpec
from seqlab_cells.gru import GRU
from seqlab_models.attention import AttentionModel
from seqlab_models.bow import BagOfNgrams
from seqlab_models.ngram import NGram
from seqlab_models.recurrent import RecurrentModel
from seqlab_models.tcn import TCN
from seqlab_models.window import WindowModel

TOKENS, FEATURES, UNNAMED = InputSpec("tokens", 3, ("", "a", "b")), InputSpec("features", 3), InputSpec("tokens", 3)
HEAD = partial(nn.Linear, out_features=2)
ARGUMENTS = {
    RecurrentModel: {"head": HEAD, "per_step": False, "cell": lambda size: GRU(size, 3), "kernel": "loop"},
    AttentionModel: {"head": HEAD, "per_step": True},
    TCN: {"head": HEAD, "per_step": True},
    WindowModel: {"head": HEAD, "per_step": True},
    BagOfNgrams: {"outputs": 2, "per_step": False},
    NGram: {"outputs": 3, "per_step": True},
}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (RecurrentModel, {"embedding_size": 0}, "embedding_size must be >= 1, got 0"),
        (RecurrentModel, {"embedding_std": 0.0}, "embedding_std must be > 0, got 0.0"),
        (RecurrentModel, {"depth": 0}, "depth"),
        (RecurrentModel, {"dropout": 1.5}, "dropout"),
        (RecurrentModel, {"input_dropout": -0.1}, "input_dropout must be >= 0 and < 1, got -0.1"),
        (RecurrentModel, {"output_dropout": 1.0}, "output_dropout must be >= 0 and < 1, got 1.0"),
        (RecurrentModel, {"truncate": -1}, "truncate"),
        (RecurrentModel, {"init_range": -1.0}, "init_range must be >= 0"),
        (RecurrentModel, {"input": "words"}, "input must be one of embedding, onehot, got 'words'"),
        (RecurrentModel, {"pooling": "first"}, "pooling must be one of last, mean, max, attention, got 'first'"),
        (RecurrentModel, {"read_padding": -1}, "read_padding must be >= 0, got -1"),
        (RecurrentModel, {"read_padding": 5, "per_step": True}, "read_padding must be 0 unless"),
        (AttentionModel, {"hidden_size": 0}, "hidden_size must be >= 1"),
        (AttentionModel, {"depth": 0}, "depth must be >= 1"),
        (AttentionModel, {"longest": 0}, "longest must be >= 1"),
        (AttentionModel, {"hidden_size": 6}, "hidden_size must be a multiple of heads=4, got 6"),
        (AttentionModel, {"positions": "rotary"}, "positions must be one of sinusoidal, learned, none, got 'rotary'"),
        (AttentionModel, {"dropout": 1.0}, "dropout must be >= 0 and < 1"),
        (TCN, {"hidden_size": 0}, "hidden_size must be >= 1"),
        (TCN, {"depth": 0}, "depth must be >= 1"),
        (TCN, {"kernel_size": 1}, "kernel_size must be >= 2"),
        (TCN, {"dropout": -0.1}, "dropout must be >= 0 and < 1"),
        (WindowModel, {"context": 0}, "context must be >= 1"),
        (WindowModel, {"embedding_size": 0}, "embedding_size must be >= 1"),
        (WindowModel, {"hidden_size": -1}, "hidden_size must be >= 1"),
        (WindowModel, {"dropout": 1.0}, "dropout must be >= 0 and < 1"),
        (WindowModel, {"inputs": FEATURES}, "a window model needs tokens, got features"),
        (BagOfNgrams, {"max_order": 0}, "max_order must be >= 1"),
        (BagOfNgrams, {"min_count": -1}, "min_count must be >= 1"),
        (BagOfNgrams, {"scale": 0.0}, "scale must be > 0"),
        (BagOfNgrams, {"per_step": True}, "a bag of n-grams has one output per sequence"),
        (BagOfNgrams, {"inputs": FEATURES}, "a bag of n-grams needs tokens, got features"),
        (NGram, {"order": 0}, "order must be >= 1"),
        (NGram, {"smoothing": "katz"}, "smoothing must be one of kneser-ney, none, got 'katz'"),
        (NGram, {"per_step": False}, "an n-gram model predicts each next token"),
        (NGram, {"inputs": FEATURES}, "an n-gram model needs tokens, got features"),
        (NGram, {"outputs": 2}, "an n-gram model needs a task that predicts the next token"),
        (NGram, {"reset": "<s>"}, "reset must be a symbol of the vocabulary or empty, got '<s>'"),
        (NGram, {"reset": "<s>", "inputs": UNNAMED}, "reset='<s>' needs a preprocessing with known symbols"),
    ],
)
def test_options_out_of_range(model, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        model(**{"inputs": TOKENS, **ARGUMENTS[model], **options})
