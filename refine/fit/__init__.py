"""The fit from start to end: prepare and stages; and Lightning's part in it."""
