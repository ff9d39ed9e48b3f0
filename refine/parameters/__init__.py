"""The numbers that a fit may move: names, units, bounds, restraints, ties, and what each of them moves."""
