"""What is asked for: the typed settings of a fit, their limits, and the files they name."""
