"""The fit of spot positions, and crystals that drift."""
