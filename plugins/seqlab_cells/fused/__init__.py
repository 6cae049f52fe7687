"""Fused scan of RNN, LSTM and GRU: kernel, operator, and implementations in C++ and in torch."""
