"""The lattice sum on a GPU: Triton kernels with the C kernels' signature. The PyTorch twin stays the definition."""
