"""The CPU kernels: C sources, what compiles them, and their face as PyTorch operators."""
