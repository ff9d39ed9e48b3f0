"""Where the detector stands: pivot and beam centre → axes and origin in the lab (docs/physics.md §2.3, §2.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nbtorch.config import DetectorConfig, PanelConfig, Vec3
from nbtorch.conventions import Frame, Pivot
from nbtorch.errors import ConfigError, GeometryError
from nbtorch.nanobragg.resolve.axes import Axes
from nbtorch.nanobragg.resolve.notes import Note, choice, conflict
from nbtorch.nanobragg.resolve.stated import Stated
from nbtorch.nanobragg.resolve.vectors import add, dot, rotate, rotate_xyz, scale

DEFAULT_PIXEL, DEFAULT_SIZE, DEFAULT_DISTANCE = 0.1, 102.4, 100.0  # mm
MAX_PIXELS = 10**5  # along one axis
MAX_LAYERS = 10**4


@dataclass(frozen=True)
class Placement:
    """The detector as placed: what headers and the printed geometry report. mm, and pixels for ``org_x``, ``org_y``.

    ``fast``, ``slow``, ``normal`` are rotated; ``x_beam``, ``y_beam`` are as the convention counts;
    ``fast_beam``, ``slow_beam`` lie along the axes; ``pix0`` is the outer corner of pixel (0, 0).
    """

    pixel: float
    pixels: tuple[int, int]
    size: tuple[float, float]
    pivot: Pivot
    fast: Vec3
    slow: Vec3
    normal: Vec3
    pix0: Vec3
    distance: float
    close_distance: float
    x_beam: float
    y_beam: float
    fast_beam: float
    slow_beam: float
    fast_close: float
    slow_close: float
    twotheta: float

    @property
    def org_x(self) -> float:
        """XDS: the pixel nearest to the sample, fast."""
        return self.fast_close / self.pixel + 0.5

    @property
    def org_y(self) -> float:
        """XDS: the pixel nearest to the sample, slow."""
        return self.slow_close / self.pixel + 0.5

    @property
    def dials_origin(self) -> Vec3:
        """The origin in mm in the frame that DIALS uses."""
        return self.pix0[2], self.pix0[1], -self.pix0[0]


def _pixels_and_size(count: int | None, size: float | None, pixel: float, axis: str) -> tuple[int, float]:
    """Pixels and mm along one axis: a count decides, else the size in mm, 102.4 by default."""
    size = count * pixel if count is not None else DEFAULT_SIZE if size is None else size
    pixels = count if count is not None else math.ceil(size / pixel - 0.5)
    if not 1 <= pixels <= MAX_PIXELS:
        raise ConfigError(
            f"{pixels} pixels along {axis}", f"a detector has 1 … {MAX_PIXELS}", "Change the pixel count or size"
        )
    return pixels, size


def _frame(stated: Stated) -> tuple[Frame, tuple[int, int]]:
    """Sizes, and the near point as stated: ORGX and ORGY or the middle, unless Xclose or Yclose name it."""
    pixel = DEFAULT_PIXEL if stated.pixel is None else stated.pixel
    if pixel <= 0:
        raise ConfigError(f"-pixel {pixel:g}", "a pixel has a size", "Give the pixel size in mm")
    n_fast, size_fast = _pixels_and_size(stated.pixels_fast, stated.size_fast, pixel, "fast")
    n_slow, size_slow = _pixels_and_size(stated.pixels_slow, stated.size_slow, pixel, "slow")
    fast_close, slow_close = _near_point(stated, size_fast, size_slow, pixel)
    x_close = fast_close if stated.x_close is None else stated.x_close
    y_close = slow_close if stated.y_close is None else stated.y_close
    return Frame(size_fast, size_slow, pixel, x_close, y_close), (n_fast, n_slow)


def _near_point(stated: Stated, size_fast: float, size_slow: float, pixel: float) -> tuple[float, float]:
    fast = size_fast / 2 if stated.org_x is None else (stated.org_x - 0.5) * pixel
    slow = size_slow / 2 if stated.org_y is None else (stated.org_y - 0.5) * pixel
    return fast, slow


@dataclass(frozen=True)
class Motion:
    """The detector rotations: about lab x, y, z, then about the 2θ axis (degrees)."""

    angles: Vec3
    axis: Vec3
    twotheta: float

    def __call__(self, vector: Vec3) -> Vec3:
        """``vector`` turned."""
        return rotate(rotate_xyz(vector, self.angles), self.axis, self.twotheta)


def place(stated: Stated, axes: Axes, pivot: Pivot) -> Placement:
    """The detector in the lab. Raises GeometryError when it is parallel to the beam."""
    frame, pixels = _frame(stated)
    motion = Motion(
        (stated.rot_x or 0.0, stated.rot_y or 0.0, stated.rot_z or 0.0), axes.twotheta, stated.twotheta or 0.0
    )
    ratio = dot(axes.beam, rotate_xyz(axes.normal, motion.angles))
    if abs(ratio) < 1e-12:
        raise GeometryError("the detector", "it is parallel to the beam, so no distance places it", "Turn it")
    x_beam, y_beam = _beam_centre(stated, axes, frame)
    honoured = stated.pix0 is not None and stated.compat != "nanobragg"
    if stated.pix0 is not None and honoured:
        pix0 = motion(stated.pix0)
    elif pivot == "sample":
        pix0 = _sample_corner(stated, axes, frame, motion, ratio)
    else:
        pix0 = _beam_corner(stated, axes, frame, motion, ratio)
    fast, slow, normal = motion(axes.fast), motion(axes.slow), motion(axes.normal)
    close = dot(pix0, normal)
    in_plane = add(scale(axes.beam, close / ratio), scale(pix0, -1.0))
    fast_beam, slow_beam = dot(fast, in_plane), dot(slow, in_plane)
    return Placement(
        pixel=frame.pixel,
        pixels=pixels,
        size=(frame.size_fast, frame.size_slow),
        pivot=pivot,
        fast=fast,
        slow=slow,
        normal=normal,
        pix0=pix0,
        distance=close / ratio,
        close_distance=close,
        x_beam=fast_beam if honoured else x_beam,
        y_beam=slow_beam if honoured else y_beam,
        fast_beam=fast_beam,
        slow_beam=slow_beam,
        fast_close=-dot(pix0, fast),
        slow_close=-dot(pix0, slow),
        twotheta=motion.twotheta,
    )


def _beam_centre(stated: Stated, axes: Axes, frame: Frame) -> tuple[float, float]:
    """Xbeam, Ybeam (mm) as the convention counts: given, or its default."""
    x, y = axes.convention.default_centre(frame)
    return x if stated.x_beam is None else stated.x_beam, y if stated.y_beam is None else stated.y_beam


def _close_distance(stated: Stated, ratio: float) -> float:
    """Distance along the normal: -close_distance, else the projection of -distance."""
    asked = DEFAULT_DISTANCE if stated.distance is None else stated.distance
    close = abs(ratio * asked) if stated.close_distance is None else stated.close_distance
    if close == 0:
        raise GeometryError("a distance of 0", "the detector would hold the sample", "Change -distance")
    return close


def _sample_corner(stated: Stated, axes: Axes, frame: Frame, motion: Motion, ratio: float) -> Vec3:
    """pix0 when the detector turns about the sample: placed unrotated by its near point, then turned as a whole."""
    near = _near_point(stated, frame.size_fast, frame.size_slow, frame.pixel)
    if axes.convention.name == "CUSTOM":  # nanoBragg: there the beam centre is taken for the near point
        near = _beam_centre(stated, axes, frame)
    corner = add(scale(axes.fast, -near[0]), scale(axes.slow, -near[1]))
    return motion(add(corner, scale(axes.normal, _close_distance(stated, ratio))))


def _beam_corner(stated: Stated, axes: Axes, frame: Frame, motion: Motion, ratio: float) -> Vec3:
    """pix0 when the detector turns about the direct beam's spot: measured back from it along the turned axes."""
    x_beam, y_beam = _beam_centre(stated, axes, frame)
    fast_beam, slow_beam = axes.convention.beam_on_axes(x_beam, y_beam, frame)
    corner = add(scale(motion(axes.fast), -fast_beam), scale(motion(axes.slow), -slow_beam))
    return add(corner, scale(axes.beam, _close_distance(stated, ratio) / ratio))


def sensor(stated: Stated) -> tuple[float, int, float | None, list[Note]]:
    """Attenuation length (mm), layers, their step (mm; None: thickness/layers) and notes.

    nanoBragg: with both a thickness and a count the step is thickness/(count − 1), so the stack is one step too
    thick; -exact_corrections cuts the thickness evenly.
    """
    thickness, attenuation = stated.thickness or 0.0, stated.attenuation
    if thickness <= 0:
        absorbs = stated.attenuation is not None and math.isfinite(stated.attenuation)
        given = absorbs or stated.thick_steps is not None
        return math.inf, 1, None, [conflict("no -detector_thick: the sensor absorbs nothing")] if given else []
    if attenuation is None or math.isinf(attenuation):
        return math.inf, 1, None, [conflict("-detector_thick without a finite -detector_abs: no absorption")]
    count = stated.thick_steps if stated.thick_steps is not None and stated.thick_steps > 0 else None
    if (count or 0) > MAX_LAYERS:
        raise ConfigError(f"-detector_thicksteps {count}", f"at most {MAX_LAYERS} layers are possible", "Take fewer")
    if stated.exact_corrections or count is None:
        layers = count or 2
        return attenuation, layers, None, [] if count else [choice(f"{layers} sensor layers")]
    layers = max(count, 2)
    return attenuation, layers, thickness / (layers - 1), []


def detector_config(stated: Stated, placement: Placement) -> tuple[DetectorConfig, list[Note]]:
    """The detector as one explicit panel. Raises ConfigError for sizes that are not positive."""
    attenuation, layers, step, notes = sensor(stated)
    panel = PanelConfig(
        fast_axis=placement.fast,
        slow_axis=placement.slow,
        origin=placement.pix0,
        pixel_size=(placement.pixel, placement.pixel),
        size=placement.pixels,
        normal=placement.normal,
        thickness=stated.thickness or 0.0,
        attenuation_length=attenuation,
    )
    return DetectorConfig(
        panels=(panel,),
        layers=layers,
        curved=bool(stated.curved),
        point_pixel=bool(stated.point_pixel),
        layer_step=step,
        curved_distance=placement.distance if stated.curved else None,
    ), notes
