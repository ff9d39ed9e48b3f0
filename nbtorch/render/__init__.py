"""Pixels in, photons out."""

from nbtorch.render.pixels import PixelSelection, full_frame, masked, pixel_list, roi, shoeboxes
from nbtorch.render.renderer import Renderer

__all__ = ["PixelSelection", "Renderer", "full_frame", "masked", "pixel_list", "roi", "shoeboxes"]
