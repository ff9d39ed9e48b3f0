"""Defaults and precedence: what a user of the command stated → explicit settings and numbers."""

from __future__ import annotations

from dataclasses import dataclass

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, Exposure, RenderSettings
from nbtorch.nanobragg.resolve.axes import resolve_axes, resolve_pivot
from nbtorch.nanobragg.resolve.beam import beam_config
from nbtorch.nanobragg.resolve.conflicts import placing_conflicts
from nbtorch.nanobragg.resolve.crystal import crystal_config, resolve_exposure, resolve_lattice
from nbtorch.nanobragg.resolve.detector import Placement, detector_config, place
from nbtorch.nanobragg.resolve.header import header_values, under_flags
from nbtorch.nanobragg.resolve.notes import Note
from nbtorch.nanobragg.resolve.sampling import (
    render_settings,
    resolve_interpolation,
    resolve_mode,
    resolve_oversample,
    resolve_roi,
)
from nbtorch.nanobragg.resolve.stated import Inputs, Stated
from nbtorch.nanobragg.resolve.steps import Steps

__all__ = ["Inputs", "Note", "Placement", "Resolved", "Stated", "Steps", "resolve"]

DEFAULT_SEED = 1


@dataclass(frozen=True)
class Resolved:
    """Everything an image needs, explicit. ``roi`` is (xmin, xmax, ymin, ymax), inclusive, fast then slow."""

    crystal: CrystalConfig
    beam: BeamConfig
    detector: DetectorConfig
    exposure: Exposure
    render: RenderSettings
    default_F: float
    convention: str
    placement: Placement
    spindle: Steps
    roi: tuple[int, int, int, int]
    notes: tuple[Note, ...]


def resolve(stated: Stated, inputs: Inputs | None = None, *, seed: int = DEFAULT_SEED) -> Resolved:
    """Settings from flags and the files they name; ``seed`` is what -misset random uses without a -misset_seed.

    Raises ConfigError or GeometryError for what cannot be simulated.
    """
    inputs = inputs or Inputs()
    flags, stated = stated, with_headers(stated, inputs)
    axes, axes_notes = resolve_axes(stated)
    pivot, pivot_notes = resolve_pivot(stated, axes)
    placement = place(stated, axes, pivot)
    detector, detector_notes = detector_config(stated, placement)
    beam, beam_notes = beam_config(stated, axes, inputs.sources)
    lattice, lattice_notes = resolve_lattice(stated, inputs.matrix, beam.wavelength)
    crystal, crystal_notes = crystal_config(stated, lattice, axes.spindle, seed)
    exposure, spindle, spindle_notes = resolve_exposure(stated)
    oversample, oversample_notes = resolve_oversample(stated, crystal, beam.wavelength, placement)
    interpolation, interpolation_notes = resolve_interpolation(stated, crystal, inputs.has_table)
    mode, mode_notes = resolve_mode(stated)
    roi, roi_notes = resolve_roi(stated, placement.pixels)
    return Resolved(
        crystal=crystal,
        beam=beam,
        detector=detector,
        exposure=exposure,
        render=render_settings(stated, oversample, interpolation, mode),
        default_F=stated.default_F or 0.0,
        convention=axes.convention.name,
        placement=placement,
        spindle=spindle,
        roi=roi,
        notes=(
            *axes_notes,
            *pivot_notes,
            *placing_conflicts(flags, axes.convention.name, pivot),
            *detector_notes,
            *beam_notes,
            *lattice_notes,
            *crystal_notes,
            *spindle_notes,
            *oversample_notes,
            *interpolation_notes,
            *mode_notes,
            *roi_notes,
        ),
    )


def with_headers(stated: Stated, inputs: Inputs) -> Stated:
    """``stated`` with the geometry of the named headers under the flags; of two headers the one named last wins."""
    headers = []
    if inputs.image_header is not None:
        headers.append(("img", header_values(inputs.image_header, is_mask=False)))
    if inputs.mask_header is not None:
        headers.append(("mask", header_values(inputs.mask_header, is_mask=True)))
    values = {}
    for _, header in sorted(headers, key=lambda item: _last(stated.order, item[0])):
        values.update(header)
    return under_flags(stated, values) if values else stated


def _last(order: tuple[str, ...], field: str) -> int:
    """Position of the last mention of ``field``, -1 without one."""
    return max((index for index, name in enumerate(order) if name == field), default=-1)
