"""Frames as they were measured: which belong to which experiment, how they are read, their noise, and shoeboxes."""
