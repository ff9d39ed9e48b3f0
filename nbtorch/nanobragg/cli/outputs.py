"""What the command writes: float, integer, noise and PGM images under nanoBragg's header, and their statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nbtorch.config import Vec3
from nbtorch.errors import ConfigError
from nbtorch.functional.random import photon_noise
from nbtorch.io.float_image import write_float_image
from nbtorch.io.pgm import write_pgm
from nbtorch.io.smv import write_smv
from nbtorch.nanobragg.resolve import Resolved, Stated

FloatImage = NDArray[np.float32]
MAX_COUNT = 65535
AUTO_MAX = 55000.0  # where the brightest pixel of an automatically scaled integer image lands
DEFAULT_ADC = 40.0


@dataclass(frozen=True)
class Statistics:
    """``maximum`` and where, ``mean`` and ``rms`` over the pixels rendered; ``rmsd`` over the whole ROI about ``mean``.

    nanoBragg: rms divides by n − 1, rmsd by the number of ROI pixels − 1, masked ones counting as zero.
    """

    maximum: float
    fast: int
    slow: int
    mean: float
    rms: float
    rmsd: float
    rendered: int


def statistics(image: FloatImage, rendered: NDArray[np.bool_], roi: tuple[int, int, int, int]) -> Statistics:
    """Statistics of ``image`` [slow, fast]; ``rendered`` [slow, fast] marks its pixels."""
    x0, x1, y0, y1 = roi
    box = image[y0 : y1 + 1, x0 : x1 + 1].astype(np.float64)
    values = image[rendered].astype(np.float64)
    if not values.size:
        return Statistics(0.0, x0, y0, 0.0, 0.0, 0.0, 0)
    brightest = int(np.argmax(np.where(rendered, image, -np.inf)))
    slow, fast = divmod(brightest, image.shape[1])
    with np.errstate(invalid="ignore"):  # a running sum may overflow float32: its statistics are inf and nan
        mean = float(values.mean())
        squares, deviations = float((values**2).sum()), float(((box - mean) ** 2).sum())
    return Statistics(
        maximum=float(image[slow, fast]),
        fast=fast,
        slow=slow,
        mean=mean,
        rms=math.sqrt(squares / max(values.size - 1, 1)),
        rmsd=math.sqrt(deviations / max(box.size - 1, 1)),
        rendered=values.size,
    )


def smv_header(resolved: Resolved) -> dict[str, str]:
    """The geometry keys of an SMV header, in nanoBragg's order and digits (docs/physics.md §5)."""
    place, half = resolved.placement, resolved.placement.pixel / 2
    phi = resolved.exposure.phi_start
    numbers: dict[str, float | Vec3] = {
        "PIXEL_SIZE": place.pixel,
        "DISTANCE": place.distance,
        "WAVELENGTH": resolved.beam.wavelength,
        "BEAM_CENTER_X": place.x_beam,
        "BEAM_CENTER_Y": place.y_beam,
        "ADXV_CENTER_X": place.fast_beam,
        "ADXV_CENTER_Y": place.size[1] - place.slow_beam,
        "MOSFLM_CENTER_X": place.slow_beam - half,
        "MOSFLM_CENTER_Y": place.fast_beam - half,
        "DENZO_X_BEAM": place.slow_beam,
        "DENZO_Y_BEAM": place.fast_beam,
        "DIALS_ORIGIN": place.dials_origin,
        "XDS_ORGX": place.org_x,
        "XDS_ORGY": place.org_y,
        "CLOSE_DISTANCE": place.close_distance,
        "PHI": phi,
        "OSC_START": phi,
        "OSC_RANGE": resolved.spindle.range,
        "TWOTHETA": place.twotheta,
    }
    text = {key: _printed(value) for key, value in numbers.items()}
    return {**text, "DETECTOR_SN": "000", "BEAMLINE": "fake"}


def _printed(value: float | tuple[float, ...]) -> str:
    # "+ 0.0" turns a negative zero into zero
    values = value if isinstance(value, tuple) else (value,)
    return ",".join(f"{number + 0.0:g}" for number in values)


def _counts(values: NDArray[np.float64], roi: tuple[int, int, int, int]) -> NDArray[np.uint16]:
    """Clipped 16-bit counts, 0 for what is no number; nanoBragg leaves pixels outside the ROI at 0, with no offset."""
    x0, x1, y0, y1 = roi
    counts = np.zeros(values.shape, dtype=np.uint16)
    inside = np.s_[y0 : y1 + 1, x0 : x1 + 1]
    counts[inside] = np.clip(np.nan_to_num(values[inside], nan=0.0), 0, MAX_COUNT).astype(np.uint16)
    return counts


def integer_image(image: FloatImage, scale: float, adc: float, roi: tuple[int, int, int, int]) -> NDArray[np.uint16]:
    """floor(float·scale + adc + ½), clipped to 0 … 65535."""
    with np.errstate(invalid="ignore"):  # inf · 0
        return _counts(np.floor(image.astype(np.float64) * scale + adc + 0.5), roi)


def noise_image(
    image: FloatImage, adc: float, seed: int, roi: tuple[int, int, int, int]
) -> tuple[NDArray[np.uint16], int]:
    """Photon counts drawn from ``image``, + adc, clipped; and how many were clipped. The same seed, the same image."""
    generator = torch.Generator().manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
    drawn = photon_noise(torch.from_numpy(image.astype(np.float64)), generator).numpy()
    values = np.floor(drawn + adc + 0.5)
    return _counts(values, roi), int((values > MAX_COUNT).sum())


def check_names(stated: Stated) -> None:
    """Refuse an output that would replace an input or another output. Raises ConfigError."""
    inputs = [stated.hkl, stated.mat, stated.img, stated.mask, stated.sourcefile]
    outputs = [stated.float_file, stated.int_file, stated.pgm_file, stated.noise_file]
    if stated.hkl is not None:
        outputs.append(stated.dump)
    taken = {Path(name).resolve() for name in inputs if name is not None}
    for name in outputs:
        if name is None:
            continue
        if Path(name).resolve() in taken:
            raise ConfigError(f"output {name}", "it is also an input, or another output", "Choose another name")
        taken.add(Path(name).resolve())


def write_images(stated: Stated, resolved: Resolved, image: FloatImage, stats: Statistics, seed: int) -> list[str]:
    """Write what was asked for; returns the lines to print."""
    adc = DEFAULT_ADC if stated.adc is None else stated.adc
    header, lines = smv_header(resolved), []
    if stated.float_file is not None:
        write_float_image(stated.float_file, image, overwrite=True)
        lines.append(f"writing {stated.float_file} as {image.size} 4-byte floats")
    if stated.int_file is not None:
        scale = stated.int_scale if stated.int_scale and stated.int_scale > 0 else auto_scale(stats)
        write_smv(stated.int_file, integer_image(image, scale, adc, resolved.roi), header, overwrite=True)
        lines.append(f"intfile_scale = {scale:g}")
        lines.append(f"writing {stated.int_file} as 2-byte integers")
    if stated.pgm_file is not None and not stated.no_pgm:
        scale = stated.pgm_scale if stated.pgm_scale and stated.pgm_scale > 0 else auto_pgm_scale(stats)
        write_pgm(stated.pgm_file, image, scale, overwrite=True)
        lines.append(f"pgm_scale = {scale:g}")
        lines.append(f"writing {stated.pgm_file} as 1-byte integers")
    if stated.noise_file is not None and not stated.no_noise:
        counts, overloads = noise_image(image, adc, seed, resolved.roi)
        write_smv(stated.noise_file, counts, header, overwrite=True)
        lines.append(f"noise seed {seed}, {overloads} overloads")
        lines.append(f"writing {stated.noise_file} as 2-byte integers")
    return lines


def auto_scale(stats: Statistics) -> float:
    """Brings the brightest pixel to 55000; 1 for an empty image."""
    return AUTO_MAX / stats.maximum if stats.maximum > 0 else 1.0


def auto_pgm_scale(stats: Statistics) -> float:
    """250 grey levels for five rmsd; 1 for a flat image."""
    return 250.0 / (5.0 * stats.rmsd) if stats.rmsd > 0 else 1.0
