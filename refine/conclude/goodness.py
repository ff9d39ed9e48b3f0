"""How well the pixels are explained, all together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from refine.parameters.parameter_set import ParameterSet
from refine.pixels.objective import PixelObjective
from refine.processes import listed, total
from refine.records.outcome import Goodness, Pair


def goodness(objective: PixelObjective, parameters: ParameterSet, z2: float, stage: str) -> Goodness:
    """Residuals of the pixels under spots in units of their noise; nothing of a fit without pixels."""
    values, sums = [torch.zeros(0, dtype=torch.float64)], torch.zeros(2, dtype=torch.float64)
    for index, block in enumerate(objective.blocks):
        fit = objective.fit_boxes(index, block.model(parameters))
        z = (block.boxes.counts - fit.total) * fit.weight.sqrt()
        values.append(z[block.boxes.valid & (fit.signal**2 * fit.weight > 0.1)])
        sums += torch.stack([(z[block.boxes.valid] ** 2).sum(), torch.tensor(block.boxes.n_pixels).to(sums)])
    z_all = torch.cat(listed([torch.cat(values)])).numpy()
    square, pixels = total(sums).tolist()
    if pixels == 0:
        return Goodness(extra={"stage": stage})
    histogram, edges = np.histogram(np.clip(z_all, -6, 6), bins=48, range=(-6, 6))
    spread = float(np.std(z_all)) if len(z_all) else None
    return Goodness(
        reduced_chi_square=square / max(pixels, 1),
        sigma_z=spread,
        edges_z=tuple(edges.tolist()),
        histogram_z=tuple(histogram.astype(float).tolist()),
        extra={"mean_z2_under_spots": z2, "pixels": int(pixels), "stage": stage},
    )


def with_positions(found: Goodness, radial: Pair | None) -> Goodness:
    """``found`` with the rms (radial, tangential; pixels) of the used spots' positions."""
    return found if radial is None else replace(found, radial_px=radial[0], tangential_px=radial[1])
