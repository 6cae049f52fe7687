"""The fused kernels: what the RNN, the LSTM and the GRU share."""
