"""From parsed flags to printed lines and written images."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nbtorch.errors import ConfigError, DataError
from nbtorch.functional import detector as geometry
from nbtorch.models import Experiment
from nbtorch.nanobragg.cli import report
from nbtorch.nanobragg.cli.inputs import Loaded, load, save_dump, structure_factors
from nbtorch.nanobragg.cli.outputs import FloatImage, check_names, statistics, write_images
from nbtorch.nanobragg.cli.parsing import Parsed
from nbtorch.nanobragg.resolve import Note, Resolved, Stated, resolve
from nbtorch.nanobragg.resolve.notes import choice, conflict
from nbtorch.nanobragg.trace import TraceSettings, all_entries, entries, formatted
from nbtorch.render import PixelSelection, Renderer, masked, roi

Mask = NDArray[np.bool_]
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True, eq=False)
class Setup:
    """A command line made ready to render. ``seed`` is that of noise and random misset."""

    stated: Stated
    loaded: Loaded
    resolved: Resolved
    renderer: Renderer
    rendered: Mask
    seed: int


def prepare(parsed: Parsed) -> Setup:
    """Read the named files, resolve defaults and build the renderer. Raises NbtorchError."""
    stated = Stated(order=parsed.order, **parsed.values)
    check_names(stated)
    seed = int(time.time()) if stated.seed is None else stated.seed
    dtype = DTYPES[stated.dtype or "float64"]
    device = choose_device(stated.device, dtype)
    loaded = load(stated)
    resolved = resolve(stated, loaded.inputs, seed=seed)
    factors = structure_factors(loaded.reflections, resolved.default_F, dtype, device)
    if stated.dump is not None and stated.hkl is not None:
        save_dump(stated.dump, factors)
    experiment = Experiment.from_config(
        resolved.crystal, resolved.beam, resolved.detector, factors, resolved.exposure, dtype=dtype, device=device
    )
    rendered = rendered_mask(resolved, loaded)
    renderer = Renderer(experiment, select_pixels(resolved, loaded, rendered), resolved.render)
    return Setup(stated, loaded, resolved, renderer, rendered, seed)


def choose_device(name: str | None, dtype: torch.dtype) -> torch.device:
    """The device ``name``, cpu by default. Raises ConfigError for one that is unknown, absent or lacks ``dtype``."""
    try:
        device = torch.device(name or "cpu")
        torch.zeros(1, dtype=dtype, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"-device {name}", f"it cannot be used here ({reason})", "Use cpu") from error
    return device


def rendered_mask(resolved: Resolved, loaded: Loaded) -> Mask:
    """True [slow, fast] for the pixels of the ROI that the mask keeps.

    Raises DataError for a mask of another size, ConfigError when no pixel is left.
    """
    fast, slow = resolved.placement.pixels
    x0, x1, y0, y1 = resolved.roi
    inside = np.s_[y0 : y1 + 1, x0 : x1 + 1]
    keep = np.zeros((slow, fast), dtype=bool)
    keep[inside] = True
    if loaded.mask is None:
        return keep
    if loaded.mask.shape != keep.shape:
        given = f"a mask of {loaded.mask.shape[1]} by {loaded.mask.shape[0]} pixels"
        raise DataError(given, f"the detector has {fast} by {slow}", "Give a mask of that size")
    keep &= loaded.mask
    if not keep.any():
        raise ConfigError("the mask", "it leaves no pixel of the region to render", "Check -mask and -roi")
    return keep


def select_pixels(resolved: Resolved, loaded: Loaded, rendered: Mask) -> PixelSelection:
    """The rendered pixels as the renderer takes them."""
    x0, x1, y0, y1 = resolved.roi
    if loaded.mask is None:
        return roi(resolved.detector, (x0, x1), (y0, y1))
    return masked(resolved.detector, [rendered])


def simulate(parsed: Parsed) -> None:
    """Run a parsed command. Raises NbtorchError."""
    setup = prepare(parsed)
    stated, resolved = setup.stated, setup.resolved
    reflections = 0 if setup.loaded.reflections is None else len(setup.loaded.reflections.hkl)
    _print((*map(str, setup.loaded.notes), *map(str, notes_on_outputs(stated)), *report.report(resolved, reflections)))
    with torch.no_grad():
        photons = setup.renderer(progress=progress_meter(stated))
        image: FloatImage = np.zeros(setup.rendered.shape, dtype=np.float32)
        image[setup.rendered] = photons.to(torch.float32).cpu().numpy()  # both run along fast first
        _print(trace_lines(setup))
    stats = statistics(image, setup.rendered, resolved.roi)
    _print(printed_pixels(stated, image, setup.rendered))
    _print(report.statistics_lines(stats, subtended(resolved, setup.rendered)))
    _print(write_images(stated, resolved, image, stats, setup.seed))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def notes_on_outputs(stated: Stated) -> list[Note]:
    """What was chosen or contradicted among the outputs."""
    notes = []
    files = (stated.float_file, stated.int_file, stated.pgm_file, stated.noise_file)
    if all(name is None for name in files):
        notes.append(choice("no image is written: none of -floatfile, -intfile, -pgmfile, -noisefile was given"))
    if stated.no_noise and stated.noise_file is not None:
        notes.append(conflict(f"-nonoise: {stated.noise_file} is not written"))
    if stated.no_pgm and stated.pgm_file is not None:
        notes.append(conflict(f"-nopgm: {stated.pgm_file} is not written"))
    if stated.int_scale is not None and stated.int_file is None:
        notes.append(conflict("-scale has no effect without -intfile"))
    if stated.adc is not None and stated.int_file is None and stated.noise_file is None:
        notes.append(conflict("-adc has no effect without -intfile or -noisefile"))
    if stated.pgm_scale is not None and stated.pgm_file is None:
        notes.append(conflict("-pgmscale has no effect without -pgmfile"))
    if stated.trace_all and stated.trace_pixel is None:
        notes.append(conflict("-trace_all has no effect without -trace_pixel"))
    return notes


def progress_meter(stated: Stated) -> Callable[[int, int], None] | None:
    """A meter of rendered pixels, on a terminal only."""
    if stated.progress is False or not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{100 * done // total:3d}% done", end=end, file=sys.stderr, flush=True)

    return show


def subtended(resolved: Resolved, rendered: Mask) -> float:
    """Solid angle (sr) of the rendered pixels, each taken at its centre."""
    place, detector = resolved.placement, resolved.detector
    fast, slow = (
        (torch.arange(count, dtype=torch.float64) + 0.5) * place.pixel - close
        for count, close in zip(place.pixels, (place.fast_close, place.slow_close), strict=True)
    )
    close = torch.tensor(place.close_distance, dtype=torch.float64)
    airpath = (slow[:, None] ** 2 + (fast**2 + close**2)).sqrt()
    if detector.curved:
        airpath = torch.full_like(airpath, place.distance)
    area = torch.tensor(place.pixel**2, dtype=torch.float64)
    omega = geometry.solid_angle(airpath, close, area, point_pixel=detector.point_pixel)
    return float((omega * torch.from_numpy(rendered)).sum())


def trace_lines(setup: Setup) -> Iterable[str]:
    """The trace of the chosen pixel, if one is. Raises ConfigError for a pixel outside the detector."""
    pixel, render = setup.stated.trace_pixel, setup.resolved.render
    if pixel is None:
        return
    slow, fast = pixel
    n_fast, n_slow = setup.resolved.placement.pixels
    if not (0 <= slow < n_slow and 0 <= fast < n_fast):
        raise ConfigError(f"-trace_pixel {slow} {fast}", "it lies outside the detector", "Give slow, then fast")
    settings = TraceSettings(
        shape=setup.resolved.crystal.shape,
        running_thick=render.running_thick,
        running_polar=render.running_polar,
        running_omega=render.running_omega,
        own_weights=render.mode == "exact",
        mosaic_domains=setup.resolved.crystal.mosaic.domains,
    )
    terms = setup.renderer.terms(0, slow, fast)
    yield from formatted(entries(terms, settings))
    if setup.stated.trace_all:
        yield from formatted(all_entries(terms, settings))


def printed_pixels(stated: Stated, image: FloatImage, rendered: np.ndarray) -> Iterable[str]:
    """ "fast slow photons" of every rendered pixel (-printout), or of one (-printout_pixel)."""
    if stated.printout_pixel is not None:
        fast, slow = stated.printout_pixel
        if not (0 <= slow < image.shape[0] and 0 <= fast < image.shape[1]):
            raise ConfigError(f"-printout_pixel {fast} {slow}", "it lies outside the detector", "Give fast, then slow")
        yield f"pixel {fast} {slow} {image[slow, fast]:.9g}"
    elif stated.printout:
        for slow, fast in np.argwhere(rendered):
            yield f"pixel {fast} {slow} {image[slow, fast]:.9g}"
