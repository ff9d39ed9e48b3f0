"""The commands: nb-refine, nb-refine batch, nb-refine compare."""
