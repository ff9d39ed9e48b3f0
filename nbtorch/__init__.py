"""nanoBragg as a differentiable PyTorch model."""

__version__ = "0.1.0"
