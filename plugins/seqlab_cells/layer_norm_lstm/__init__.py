"""Long short-term memory with layer normalisation."""

from seqlab_cells.layer_norm_lstm.cell import LayerNormLSTM

__all__ = ["LayerNormLSTM"]
