"""How pixels are sampled: oversampling, interpolation, the way corrections enter, region of interest."""

from __future__ import annotations

import math

from nbtorch.config import CrystalConfig, Interpolation, Mode, RenderSettings
from nbtorch.errors import ConfigError
from nbtorch.nanobragg.resolve.detector import Placement
from nbtorch.nanobragg.resolve.notes import Note, choice, conflict
from nbtorch.nanobragg.resolve.stated import Stated

_ANGSTROM_PER_MM = 1e7
MAX_OVERSAMPLE = 1000
RUNNING_FLAGS = ("oversample_thick", "oversample_polar", "oversample_omega")


def resolve_oversample(
    stated: Stated, crystal: CrystalConfig, wavelength: float, placement: Placement
) -> tuple[int, list[Note]]:
    """Sub-pixels each way: as given, else ceil(3·(largest crystal width)/(λ·distance/d)), at least 1."""
    if stated.oversample is not None and stated.oversample > 0:
        if stated.oversample > MAX_OVERSAMPLE:
            raise ConfigError(
                f"-oversample {stated.oversample}",
                f"at most {MAX_OVERSAMPLE} sub-pixels each way are possible",
                "Take fewer",
            )
        return stated.oversample, []
    widest = max(n * edge for n, edge in zip(crystal.n_cells, crystal.cell[:3], strict=True))
    reciprocal_pixel = wavelength * abs(placement.distance) / placement.pixel
    chosen = max(1, math.ceil(3 * widest / reciprocal_pixel)) if reciprocal_pixel else MAX_OVERSAMPLE + 1
    if chosen > MAX_OVERSAMPLE:
        raise ConfigError(
            f"a crystal {widest / _ANGSTROM_PER_MM:g} mm wide",
            f"its finest fringes would take {chosen} sub-pixels each way",
            "State -oversample",
        )
    return chosen, [choice(f"oversample {chosen}, from the crystal size")]


def resolve_interpolation(stated: Stated, crystal: CrystalConfig, has_table: bool) -> tuple[Interpolation, list[Note]]:
    """Tricubic when asked for, or when an N is at most 2; nearest without structure factors."""
    if not has_table:
        notes = [conflict("no structure factors were read: -interpolate has no effect")] if stated.interpolate else []
        return "nearest", notes
    if stated.interpolate is not None:
        return ("tricubic" if stated.interpolate else "nearest"), []
    small = min(crystal.n_cells) <= 2
    return (
        ("tricubic", [choice("interpolation tricubic, because the crystal is at most 2 cells wide")])
        if small
        else ("nearest", [choice("interpolation off: nearest structure factor")])
    )


def resolve_mode(stated: Stated) -> tuple[Mode, list[Note]]:
    """How capture, polarization and solid angle enter (docs/physics.md §1.1)."""
    running = [f"-{name}" for name in RUNNING_FLAGS if getattr(stated, name)]
    if stated.exact_corrections:
        notes = [conflict(f"-exact_corrections weights every sample: {' '.join(running)} not used")] if running else []
        return "exact", notes
    if not running:
        return "cached", []
    return "running", [
        conflict(
            f"{' '.join(running)} multiplies the running sum after every addition, as nanoBragg does: with more than "
            "one step this is not physics; -exact_corrections is"
        )
    ]


def render_settings(stated: Stated, oversample: int, interpolation: Interpolation, mode: Mode) -> RenderSettings:
    """The renderer's settings."""
    running = mode == "running"
    return RenderSettings(
        mode=mode,
        oversample=oversample,
        running_thick=running and bool(stated.oversample_thick),
        running_polar=running and bool(stated.oversample_polar),
        running_omega=running and bool(stated.oversample_omega),
        interpolation=interpolation,
        dmin=stated.dmin or 0.0,
        water=stated.water or 0.0,
        backend=stated.backend or "auto",
    )


def resolve_roi(stated: Stated, pixels: tuple[int, int]) -> tuple[tuple[int, int, int, int], list[Note]]:
    """(xmin, xmax, ymin, ymax), inclusive, fast then slow, cut to the frame. Raises ConfigError for no pixel."""
    full = (0, pixels[0] - 1, 0, pixels[1] - 1)
    if stated.roi is None:
        return full, []
    x0, x1, y0, y1 = stated.roi
    cut = (max(x0, 0), min(x1, full[1]), max(y0, 0), min(y1, full[3]))
    if cut[0] > cut[1] or cut[2] > cut[3]:
        raise ConfigError(
            f"-roi {x0} {x1} {y0} {y1}",
            f"it holds no pixel of a {pixels[0]} by {pixels[1]} detector",
            "Give xmin xmax ymin ymax, fast then slow, bounds included",
        )
    return cut, [conflict(f"-roi is cut to the detector: {' '.join(map(str, cut))}")] if cut != stated.roi else []
