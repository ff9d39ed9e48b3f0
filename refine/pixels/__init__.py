"""The fit of pixels: rendered shoeboxes, scales and backgrounds, losses, and how well the pixels are explained."""
