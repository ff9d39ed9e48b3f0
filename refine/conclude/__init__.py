"""From a fit that ended to its outcome: one file a table."""
