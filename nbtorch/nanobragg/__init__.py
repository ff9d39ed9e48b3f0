"""The drop-in command nanoBragg, its traces, and the comparison of two programs: what the library does not need."""
