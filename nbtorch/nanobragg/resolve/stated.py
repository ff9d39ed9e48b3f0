"""What a user of the command said, and the files it names, before any default or precedence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from nbtorch.config import Backend, Mat3, Shape, SourceConfig, Vec3

#: (direction of travel, wavelength in Å: what a missing column means) → the sources of a file
ReadSources = Callable[[Vec3, float], tuple[SourceConfig, ...]]


@dataclass(frozen=True)
class Stated:
    """One field per thing that a flag can set; None: not given. mm, Å, degrees; divergence mrad, dispersion percent.

    ``order`` lists the fields in the order of the command line: the pivot and the convention follow from it.
    """

    order: tuple[str, ...] = ()

    hkl: str | None = None
    mat: str | None = None
    img: str | None = None
    mask: str | None = None
    sourcefile: str | None = None
    dump: str | None = None

    cell: tuple[float, float, float, float, float, float] | None = None
    misset: Vec3 | Literal["random"] | None = None
    misset_seed: int | None = None
    default_F: float | None = None
    n_a: float | None = None
    n_b: float | None = None
    n_c: float | None = None
    sample_x: float | None = None
    sample_y: float | None = None
    sample_z: float | None = None
    shape: Shape | None = None
    fudge: float | None = None
    mosaic_spread: float | None = None
    mosaic_domains: int | None = None
    mosaic_seed: int | None = None

    phi: float | None = None
    osc: float | None = None
    phi_step: float | None = None
    phi_steps: int | None = None
    spindle_axis: Vec3 | None = None

    wavelength: float | None = None
    dispersion: float | None = None
    dispersion_steps: int | None = None
    hdiv_range: float | None = None
    vdiv_range: float | None = None
    hdiv_step: float | None = None
    vdiv_step: float | None = None
    hdiv_steps: int | None = None
    vdiv_steps: int | None = None
    round_divergence: bool | None = None
    polar: float | None = None
    nopolar: bool | None = None
    fluence: float | None = None
    flux: float | None = None
    exposure: float | None = None
    beam_size: float | None = None
    water: float | None = None

    pixel: float | None = None
    pixels_fast: int | None = None
    pixels_slow: int | None = None
    size_fast: float | None = None
    size_slow: float | None = None
    distance: float | None = None
    close_distance: float | None = None
    point_pixel: bool | None = None
    rot_x: float | None = None
    rot_y: float | None = None
    rot_z: float | None = None
    twotheta: float | None = None
    twotheta_axis: Vec3 | None = None
    curved: bool | None = None
    attenuation: float | None = None
    thickness: float | None = None
    thick_steps: int | None = None

    convention: str | None = None
    pivot: Literal["beam", "sample"] | None = None
    x_beam: float | None = None
    y_beam: float | None = None
    x_close: float | None = None
    y_close: float | None = None
    org_x: float | None = None
    org_y: float | None = None
    fast_vector: Vec3 | None = None
    slow_vector: Vec3 | None = None
    normal_vector: Vec3 | None = None
    beam_vector: Vec3 | None = None
    polar_vector: Vec3 | None = None
    pix0: Vec3 | None = None

    oversample: int | None = None
    oversample_thick: bool | None = None
    oversample_polar: bool | None = None
    oversample_omega: bool | None = None
    interpolate: bool | None = None
    dmin: float | None = None
    roi: tuple[int, int, int, int] | None = None
    seed: int | None = None

    float_file: str | None = None
    int_file: str | None = None
    int_scale: float | None = None
    adc: float | None = None
    pgm_file: str | None = None
    pgm_scale: float | None = None
    no_pgm: bool | None = None
    noise_file: str | None = None
    no_noise: bool | None = None
    printout: bool | None = None
    printout_pixel: tuple[int, int] | None = None
    trace_pixel: tuple[int, int] | None = None
    trace_all: bool | None = None
    progress: bool | None = None

    device: str | None = None
    dtype: Literal["float64", "float32"] | None = None
    backend: Backend | None = None
    compat: Literal["nanobragg"] | None = None
    exact_cell: bool | None = None
    exact_corrections: bool | None = None
    phi_midpoint: bool | None = None
    help: bool | None = None


@dataclass(frozen=True)
class Inputs:
    """The contents of the named files that geometry depends on. Headers are SMV keys and their text."""

    image_header: Mapping[str, str] | None = None
    mask_header: Mapping[str, str] | None = None
    matrix: Mat3 | None = None  # rows x, y, z, columns a*, b*, c*, as in the file
    sources: ReadSources | None = None
    has_table: bool = False  # structure factors were read
