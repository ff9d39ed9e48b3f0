"""Spots on frames: found, listed, measured."""
