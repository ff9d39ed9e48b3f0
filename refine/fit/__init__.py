"""The fit from start to end: prepare, stages, conclude; and Lightning's part in it."""
