"""Kernels for CUDA devices, in Triton, which is imported on first use."""
