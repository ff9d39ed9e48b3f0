"""``nb-refine --check``: read everything, draw the predictions on the frames, fit nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.image import imsave
from numpy.typing import NDArray

from nbtorch.config import DetectorConfig, Exposure
from nbtorch.errors import DataError, NbtorchError
from nbtorch.io.atomic import write_text
from nbtorch.io.expt import read_expt
from nbtorch.render.excited import Excited, excited_reflections
from refine.evidence import find
from refine.frame_stack import FrameReader, FrameStack, MeasuredFrame
from refine.frames import assign_frames
from refine.layout import Plane, corners_of, positions
from refine.paths import template_dir
from refine.request import Request
from refine.run_folder import CHECK, claim_output
from refine.scene import Shot, build_scene
from refine.spots import Spots

Say = Callable[[str], None]
Array = NDArray[np.float64]
MAX_DRAWN = 8  # frames, spread over all of them
MAX_WIDTH = 1100  # pixels of a drawing


@dataclass(frozen=True, eq=False)
class Drawing:
    """One frame as a PNG (data URI) of ``width`` × ``height``, and (x, y, label) of what is marked on it."""

    title: str
    note: str
    png: str
    width: int
    height: int
    predicted: tuple[tuple[float, float, str], ...]
    found: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ShotCheck:
    """What one still or scan holds: reflections predicted on the detector, spots found, and how far apart they are."""

    name: str
    frames: int
    lost: int
    predicted: int
    found: int
    offset: float | None  # median pixels from a found spot to the nearest prediction


def check(request: Request, folder: Path, say: Say) -> None:
    """Read what ``request`` names, write check.html into ``folder`` and print a line for each still or scan.

    Raises NbtorchError for whatever cannot be read, and DataError where nothing is predicted on the detector.
    """
    document = read_expt(request.fit.data.experiment)
    frames, missing = assign_frames(document, request.fit.data)
    for error in missing.values():
        say(f"left out: {error}")
    scene = build_scene(document, frames, request.fit, say)
    with claim_output(folder, CHECK, overwrite=request.overwrite) as target:
        rows, drawings = [], []
        failure: NbtorchError | None = None
        total = sum(len(shot.images) for shot in scene.shots)
        wanted = set(np.unique(np.linspace(0, total - 1, MAX_DRAWN).round().astype(int)).tolist())
        first = 0
        reader = FrameReader(scene.shots[0].entry.detector, request.fit.data.mask)
        for shot in scene.shots:
            stack = FrameStack(shot.images, reader, say)
            try:
                found = find(shot, stack.frames())
            except NbtorchError as error:  # told by the stack; the others are looked at
                failure, first = error, first + len(shot.images)
                continue
            excited = excited_reflections(shot.experiment, whole_range(shot), request.fit.data.dmin or None)
            rows.append(_row(shot, stack, excited, found))
            say(describe(rows[-1]))
            for i in sorted({i - first for i in wanted} & set(range(len(shot.images)))):
                frame = stack.frame(i)
                drawings += [] if frame is None else [_draw(shot, i, frame, excited, found)]
            first += len(shot.images)
        if failure is not None and not rows:
            raise failure
        if not any(row.predicted for row in rows):
            raise nothing_predicted(request.fit.data.experiment)
        write_text(target, _page(request, rows, drawings), overwrite=True)
    say(f"predictions drawn on the frames: {target.absolute()}")


def nothing_predicted(experiment: str) -> DataError:
    """The error of a start geometry that puts no spot on the detector."""
    return DataError(
        f"the start geometry of {experiment}",
        "it predicts no spot on the detector",
        "Check the distance, beam centre, wavelength and the directions of the axes",
    )


def whole_range(shot: Shot) -> Exposure:
    """The spindle range of all frames of ``shot`` as one exposure."""
    exposures = shot.exposures(1)
    return Exposure(exposures[0].phi_start, sum(exposure.oscillation for exposure in exposures))


def describe(row: ShotCheck) -> str:
    """One line about a still or scan."""
    text = f"{row.name}: {row.frames} frame{'s' if row.frames != 1 else ''}"
    if row.lost:
        text += f" ({row.lost} cannot be read)"
    text += f", {row.predicted} reflections predicted on the detector, {row.found} spots found"
    return text if row.offset is None else f"{text}, half of them within {row.offset:.1f} px of a prediction"


def _row(shot: Shot, stack: FrameStack, excited: Excited, found: Spots) -> ShotCheck:
    distances = []
    for panel in np.unique(found.panel):
        here = excited.panel == panel
        if here.any():
            predicted = np.stack([excited.fast[here], excited.slow[here]], 1)
            chosen = found.panel == panel
            seen = np.stack([found.fast[chosen], found.slow[chosen]], 1)
            gaps = np.linalg.norm(seen[:, None] - predicted[None], axis=-1)
            distances += gaps.min(1).tolist()
    offset = float(np.median(distances)) if distances else None
    name = f"crystal {shot.index}" + (", still" if shot.still else ", scan")
    return ShotCheck(name, len(shot.images), len(stack.lost), len(excited), len(found), offset)


def _draw(shot: Shot, index: int, frame: MeasuredFrame, excited: Excited, found: Spots) -> Drawing:
    """Frame ``index`` of ``shot`` with the reflections and spots on it."""
    detector = shot.experiment.detector.config
    canvas = Canvas(detector)
    exposure = shot.exposures(1)[index]
    low, high = sorted((exposure.phi_start, exposure.phi_start + exposure.oscillation))
    on_frame = np.full(len(excited), True) if shot.still else (excited.phi >= low) & (excited.phi < high)
    seen = (found.first_frame <= index) & (found.last_frame >= index)
    predicted = [
        (*canvas.place(panel, fast, slow), " ".join(map(str, hkl)))
        for hkl, panel, fast, slow in zip(
            excited.hkl[on_frame].tolist(),
            excited.panel[on_frame].tolist(),
            excited.fast[on_frame].tolist(),
            excited.slow[on_frame].tolist(),
            strict=True,
        )
    ]
    spots = [canvas.place(*at) for at in zip(found.panel[seen], found.fast[seen], found.slow[seen], strict=True)]
    png, width, height = canvas.paint(frame.counts, frame.valid)
    return Drawing(
        shot.images[index].name,
        f"{len(predicted)} predicted, {len(spots)} found",
        png,
        width,
        height,
        tuple(predicted),
        tuple(spots),
    )


class Canvas:
    """All panels laid out on the detector's mean plane, as one image."""

    def __init__(self, detector: DetectorConfig) -> None:
        self.detector, self.plane = detector, Plane(detector)
        corners = np.concatenate([self.plane.project(corners_of(panel)) for panel in detector.panels])
        self.low = corners.min(0)
        pixel = max(detector.panels[0].pixel_size)
        size = np.ptp(corners, axis=0)
        # a whole number of pixels a dot, so that no row of dots gets one pixel more than its neighbours
        self.step = pixel * max(1, int(np.ceil(size[0] / pixel / MAX_WIDTH)))
        self.shape = tuple(int(n) for n in np.ceil(size / self.step - 1e-6))

    def place(self, panel: int, fast: float, slow: float) -> tuple[float, float]:
        """(x, y) of a place on a panel, in dots of the drawing."""
        lab = positions(self.detector.panels[panel], np.array([[fast, slow]]))
        x, y = (self.plane.project(lab)[0] - self.low) / self.step
        return round(float(x), 2), round(float(y), 2)

    def paint(self, counts: Sequence[np.ndarray], valid: Sequence[np.ndarray]) -> tuple[str, int, int]:
        """The frame as a PNG; a dot shows the brightest of its pixels, so that no spot is lost."""
        width, height = self.shape
        image = np.full(width * height, np.nan)
        for panel, values, good in zip(self.detector.panels, counts, valid, strict=True):
            slow, fast = np.nonzero(good)
            lab = positions(panel, np.stack([fast + 0.5, slow + 0.5], 1))
            dots = ((self.plane.project(lab) - self.low) / self.step).astype(int)
            inside = ((dots >= 0) & (dots < (width, height))).all(1)
            np.fmax.at(
                image, dots[inside, 1] * width + dots[inside, 0], values[slow[inside], fast[inside]].astype(float)
            )
        return _png(image.reshape(height, width)), width, height


def _png(image: Array) -> str:
    """Dark spots on a light ground, on a square-root scale to the 99.9th percentile; blue-grey was not measured."""
    measured = image[np.isfinite(image)]
    low, high = (float(np.percentile(measured, q)) for q in (5.0, 99.9)) if len(measured) else (0.0, 1.0)
    shade = np.sqrt(np.clip((image - low) / max(high - low, 1e-9, 4.0 - low), 0, 1))
    grey = np.where(np.isfinite(image), 255 - 225 * np.nan_to_num(shade), 0)
    pixels = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    pixels[~np.isfinite(image)] = (205, 213, 224)
    stream = io.BytesIO()
    imsave(stream, pixels, format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _page(request: Request, rows: Sequence[ShotCheck], drawings: Sequence[Drawing]) -> str:
    environment = Environment(loader=FileSystemLoader(template_dir()), autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("check.html.j2")
    return template.render(data=request.fit.data, rows=[describe(row) for row in rows], drawings=drawings)
