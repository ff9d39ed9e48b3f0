"""Which values the model was made of, and whether they were stated, assumed, estimated or fitted."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig
from nbtorch.models.detector import group_frame, root_group
from refine.fit.loop import Loop
from refine.fit.problem import Problem
from refine.fit.shoebox_choice import background_kind, half_widths, phi_steps
from refine.parameters import kinds
from refine.parameters.kinds import Kind
from refine.processes import gathered
from refine.records.model_value import ModelValue, Origin
from refine.records.outcome import ParameterRow
from refine.settings.fit_settings import BeamSettings, DetectorSettings, RenderingSettings

EXPT = ".expt"
_LISTED = 6  # numbers of one kind: more of them are in the table of parameters
_AT_LARGE = (kinds.DETECTOR_SHIFT, kinds.DETECTOR_TILT, kinds.DETECTOR_TURN)


@dataclass(frozen=True, eq=False)
class _Ended:
    """A fit that ended, with what is looked up again and again."""

    problem: Problem
    loop: Loop
    rows: Sequence[ParameterRow]
    fitted: Collection[Kind]
    said: Collection[str]  # codes of the journal

    def of(self, name: str, value: Any, unit: str, kind: Kind | Sequence[Kind], source: str = EXPT) -> ModelValue:
        """A value that the .expt states (or ``source``) unless one of its kinds was fitted."""
        own = (kind,) if isinstance(kind, Kind) else tuple(kind)
        names = {item.name for item in own}
        free = [row.free or row.tied_to is not None for row in self.rows if row.kind in names]
        if not any(item in self.fitted for item in own):
            return ModelValue(name, value, unit, "stated", source)
        part = "" if all(free) else f", {sum(free)} of {len(free)} numbers"
        return ModelValue(name, value, unit, "fitted", f"parameters{part}")


def model_values(
    problem: Problem,
    loop: Loop,
    rows: Sequence[ParameterRow],
    models: tuple[DetectorConfig, Sequence[BeamConfig], Sequence[CrystalConfig]],
) -> tuple[ModelValue, ...]:
    """All values, of the detector, the beams and the crystals ``models`` as refined. Several processes ask together."""
    free = {loop.values.parameters_[i].kind for i in loop.values.free}
    ended = _Ended(problem, loop, rows, free, {entry.code for entry in loop.journal.entries})
    detector, beams, crystals = models
    if problem.positions_alone:  # nothing was rendered
        return (*_beam(ended, beams), *_detector(ended, detector), *_crystal(ended, crystals))
    return (
        *_beam(ended, beams),
        *_detector(ended, detector),
        *_noise(ended, detector),
        *_crystal(ended, crystals),
        *_spots(ended),
        *_rendering(ended),
    )


def _common(values: Sequence[Any]) -> Any:
    """The one value of all, or the least and the largest of numbers that differ."""
    if all(value == values[0] for value in values):
        return values[0]
    if isinstance(values[0], (int, float)):
        return [min(values), max(values)]
    return f"{len(values)} different ones"


def _setting(name: str, value: Any, unit: str, setting: tuple[str, Any, Any], why: str) -> ModelValue:
    """A value of the ``setting`` (name, as given, default): assumed for the reason ``why`` where it is the default."""
    key, given, default = setting
    return ModelValue(name, value, unit, *(("assumed", why) if given == default else ("stated", key)))


def _beam(ended: _Ended, beams: Sequence[BeamConfig]) -> Iterator[ModelValue]:
    wavelength = (kinds.WAVELENGTH, kinds.SPECTRUM_OFFSET)
    yield ended.of("wavelength", _common([beam.wavelength for beam in beams]), "Å", wavelength)
    yield ended.of("beam direction", _common([list(beam.direction) for beam in beams]), "", kinds.BEAM_TILT)
    given = ended.problem.settings.beam.spectrum
    lines = "one wavelength" if len(given) == 1 else f"{len(given)} wavelengths"
    setting = ("beam.spectrum", given, BeamSettings().spectrum)
    stated = _setting("spectrum", lines, "", setting, "nothing says how wide it is")
    fitted = kinds.BANDWIDTH in ended.fitted
    yield ended.of("spectrum", lines, "", kinds.BANDWIDTH) if fitted else stated
    polarized = [None if beam.kahn_factor is None else (1 + beam.kahn_factor) / 2 for beam in beams]
    yield ended.of("polarization fraction", _common(polarized), "", kinds.POLARIZATION)
    yield ModelValue("beam divergence", 0.0, "mrad", "assumed", "the fit renders a parallel beam")


def _detector(ended: _Ended, detector: DetectorConfig) -> Iterator[ModelValue]:
    frame = group_frame(detector, root_group(detector))
    yield ended.of("detector distance", abs(float(frame[2] @ frame[3])), "mm", kinds.DETECTOR_DISTANCE)
    for kind in _AT_LARGE:
        moved = [row.value for row in ended.rows if row.kind == kind.name]
        unit = next((row.unit for row in ended.rows if row.kind == kind.name), "")
        yield ended.of(kind.name, moved if len(moved) <= _LISTED else f"{len(moved)} numbers", unit, kind)
    panels = detector.panels
    yield ModelValue("pixel size", _common([list(panel.pixel_size) for panel in panels]), "mm", "stated", EXPT)
    thick = _common([panel.thickness for panel in panels])
    yield ModelValue("sensor thickness", thick, "mm", "stated", EXPT)
    chosen, default = ended.problem.settings.detector, DetectorSettings()
    if any(panel.thickness > 0 and math.isfinite(panel.attenuation_length) for panel in panels):
        length = _common([panel.attenuation_length for panel in panels])
        yield ModelValue("attenuation length", length, "mm", "stated", EXPT)
        layers = ("detector.layers", chosen.layers, default.layers)
        yield _setting("sensor layers", chosen.layers, "", layers, "enough for its absorption")
    parallax = ("detector.parallax", chosen.parallax, default.parallax)
    yield _setting("parallax", chosen.parallax, "", parallax, "as the pixels are rendered")


def _noise(ended: _Ended, detector: DetectorConfig) -> Iterator[ModelValue]:
    problem, data = ended.problem, ended.problem.settings.data
    every = gathered({number: (gain.tolist(), noise.tolist()) for number, (gain, noise) in problem.noise.items()})
    gains, readouts = zip(*every.values(), strict=True)
    counting, stated = problem.counting, any(panel.gain != 1 for panel in detector.panels)
    yield ModelValue("detector counts photons", counting, "", "estimated", "the frames' numbers")
    gain: tuple[Origin, str] = ("estimated", "how the background's variance grows with its mean")
    if data.gain is not None or stated:
        gain = ("stated", EXPT if data.gain is None else "data.gain")
    elif counting:
        gain = ("assumed", "a detector that counts")
    yield ModelValue("gain", _common(np.concatenate(gains).tolist()), "ADU/photon", *gain)
    noise: tuple[Origin, str] = ("estimated", "the variance of a background of 0")
    if data.readout_noise is not None:
        noise = ("stated", "data.readout_noise")
    elif gain[0] != "estimated":
        noise = ("assumed", "nothing states it")
    yield ModelValue("read-out noise", _common(np.concatenate(readouts).tolist()), "ADU", *noise)


def _crystal(ended: _Ended, crystals: Sequence[CrystalConfig]) -> Iterator[ModelValue]:
    settings = ended.problem.settings
    yield ModelValue("space group", _common([crystal.space_group for crystal in crystals]), "", "stated", EXPT)
    cells = (kinds.CELL_LENGTH, kinds.CELL_ANGLE)
    yield ended.of("cell", _common([list(crystal.cell) for crystal in crystals]), "Å, deg", cells)
    turned = [row.value for row in ended.rows if row.kind == kinds.ORIENTATION.name]
    turn = turned if len(turned) <= _LISTED else f"{len(turned)} numbers"
    yield ended.of("orientation", turn, "deg from the given", kinds.ORIENTATION)
    size = _common([list(crystal.n_cells) for crystal in crystals])
    told = ended.of("number of cells", size, "", kinds.N_CELLS, "crystal.n_cells")
    estimated = ModelValue("number of cells", size, "", "estimated", "the spots' width")
    yield estimated if told.origin == "stated" and "n_cells_from_width" in ended.said else told
    yield _mosaic_spread(ended)
    setting = ("render.shape", settings.render.shape, RenderingSettings().shape)
    yield _setting("spot shape", settings.render.shape, "", setting, "nothing says which")


def _mosaic_spread(ended: _Ended) -> ModelValue:
    spreads = [row.value for row in ended.rows if row.kind == kinds.MOSAIC_SPREAD.name]
    given = ended.problem.settings.crystal.mosaic_spread
    value = _common(spreads) if spreads else (list(given) if isinstance(given, tuple) else given or 0.0)
    told = ended.of("mosaic spread", value, "deg", kinds.MOSAIC_SPREAD, "crystal.mosaic_spread")
    if told.origin == "fitted":
        return told
    if "mosaic_spread_from_width" in ended.said:
        return ModelValue("mosaic spread", value, "deg", "estimated", "the spots' width over the frames")
    if given is None:
        return ModelValue("mosaic spread", value, "deg", "assumed", "a still does not tell it from the crystal's size")
    if "mosaic_spread_assumed" in ended.said:
        return ModelValue("mosaic spread", value, "deg", "assumed", "the pixels did not get to tell it")
    return told


def _spots(ended: _Ended) -> Iterator[ModelValue]:
    data, stage = ended.problem.settings.data, ended.loop.stage
    if data.amplitudes == "none":
        yield ModelValue("amplitudes", 1.0, "", "assumed", "no file was given, and every spot has a scale of its own")
    else:
        yield ended.of("amplitudes", data.amplitudes, "", kinds.AMPLITUDE, "data.amplitudes")
    scale = "one a spot" if ended.loop.objective.free_scales else "one a crystal"
    yield ModelValue("scale", scale, "", "fitted", "the pixels of each box" if "spot" in scale else "parameters")
    error, asked = stage.model_error, ended.problem.settings.loss.model_error
    whence: tuple[Origin, str] = ("estimated", "the residuals of bright spots")
    if asked is not None:
        whence = ("stated", "loss.model_error")
    elif error == 0:
        whence = ("assumed", "the model explains the spots")
    yield ModelValue("relative error of spot shapes", error, "", *whence)


def _rendering(ended: _Ended) -> Iterator[ModelValue]:
    problem, render = ended.problem, ended.problem.settings.render
    sampled: tuple[Origin, str] = ("estimated", "the spots' width")
    if render.oversample is not None:
        sampled = ("stated", "render.oversample")
    elif "sampling_from_pixels" in ended.said:
        sampled = ("estimated", "the pixels of the brightest spots")
    samples = gathered({block.index: block.renderers.settings.oversample for block in ended.loop.objective.blocks})
    yield ModelValue("sub-pixels a side", _common(list(samples.values())), "", *sampled)
    scans = [item for item in problem.evidence if not item.expt.still]
    if scans:
        steps = _common([phi_steps(problem, item) for item in scans])
        whence = ("stated", "render.phi_steps") if render.phi_steps else ("estimated", "the width of rocking curves")
        yield ModelValue("spindle steps a frame", steps, "", *whence)  # type: ignore[arg-type]
    loss, half = problem.settings.loss, half_widths(problem)
    whence = ("stated", "loss.box_half_width") if loss.box_half_width else ("estimated", "the spots' width")
    yield ModelValue("half width of shoeboxes", half[0], "px", *whence)  # type: ignore[arg-type]
    kind = gathered({item.expt.index: background_kind(problem, item, half) for item in problem.held})
    whence = ("stated", "loss.background") if loss.background != "auto" else ("estimated", "how much there is")
    yield ModelValue("background of a shoebox", _common(list(kind.values())), "", *whence)  # type: ignore[arg-type]
