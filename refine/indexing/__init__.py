"""Which reflection each spot is."""
