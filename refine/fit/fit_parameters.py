"""The parameters of all experiments of a fit, and the model tensors that they move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from refine.indexing.assignment import Evidence
from refine.parameters.amplitudes import NAMES, amplitude_parameters, with_scale_held
from refine.parameters.parameter_set import Parameter, ParameterSet
from refine.parameters.physical import (
    at_knots,
    beam_parameters,
    cell_parameters,
    detector_parameters,
    mosaic_parameters,
    orientation_parameters,
    scale_parameter,
    size_parameters,
    spread_names,
)
from refine.parameters.restraints import structured, told_by_positions
from refine.parameters.shared_crystals import of_shared_crystals
from refine.scene.scene import Scene, shared_crystals
from refine.settings.fit_settings import FitSettings


def parameter_set(
    scene: Scene, settings: FitSettings, *, coarse: bool = False, seen: Sequence[Evidence] = ()
) -> ParameterSet:
    """The parameters of all experiments; ``coarse`` holds those that positions do not tell, ``seen`` brings amplitudes.

    Raises ConfigError where what the user says of single ones cannot be meant.
    """
    flags, later = settings.parameters, []
    if coarse:
        # what the spots' widths will set free, and what there will be then
        flags = replace(flags, n_cells=flags.n_cells or settings.crystal.n_cells is None)
        later = [name for expt in scene.experiments for name in spread_names(expt.index)]
        later += [NAMES] * flags.amplitudes
    rows: list[Parameter] = detector_parameters(scene.detector, flags)
    rows += beam_parameters(scene.experiments[0].model.beam, flags)
    for expt in scene.experiments:
        crystal = expt.model.crystal
        knots = dict.fromkeys(flags.scan_varying, crystal.config.knots)
        rows += at_knots(orientation_parameters(expt.index, flags.orientation), knots.get("orientation", ()))
        of_cell = cell_parameters(expt.index, crystal, replace(settings, parameters=flags))
        rows += at_knots(of_cell, knots.get("cell", ()))
        rows += size_parameters(expt.index, crystal, flags)
        rows += mosaic_parameters(expt.index, crystal, flags.mosaic_spread)
        rows.append(scale_parameter(expt.index, free=True))
    if flags.amplitudes and seen:
        hkl = torch.cat([item.observed.fitted().hkl for item in seen])
        group = scene.experiments[0].model.crystal.config.space_group
        rows += amplitude_parameters(scene.structure_factors, hkl, group, flags)
    rows = of_shared_crystals(rows, shared_crystals(scene))
    rows = structured(rows, settings.parameters, later)
    rows = with_scale_held(rows) if flags.amplitudes and seen else rows
    return ParameterSet(told_by_positions(rows) if coarse else rows, model_tensors(scene))


def model_tensors(scene: Scene) -> list[dict[str, Tensor]]:
    """The start of every tensor that a parameter may move, by experiment number; nothing for a number without one."""
    tensors: list[dict[str, Tensor]] = [{} for _ in range(max(expt.index for expt in scene.experiments) + 1)]
    for expt in scene.experiments:
        tensors[expt.index] = {name: p.detach() for name, p in expt.model.named_parameters()}
        tensors[expt.index]["scale"] = torch.ones(1, dtype=torch.float64)
    return tensors
