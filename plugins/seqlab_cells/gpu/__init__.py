"""The kernels for CUDA devices, in Triton. What imports Triton is imported on first use alone."""
