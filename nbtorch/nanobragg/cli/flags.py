"""Every flag of the nanoBragg command, as data: names, values, unit, target, default, help.

A target names a field of :class:`nbtorch.nanobragg.resolve.stated.Stated`. A flag with several targets sets each of
them. Units are the user's; ``read`` converts them to mm, Å and degrees. It imports nothing heavy: help must be quick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nbtorch.nanobragg.cli.readers import attenuation, choice, count, electronvolts, metres, microns, number


@dataclass(frozen=True)
class Flag:
    """One flag. ``names`` are synonyms; ``values`` are the placeholders of what follows, none for a switch.

    ``read`` turns one word into one value. ``constant`` is what a switch sets. ``words`` are single words accepted in
    place of all values ("random"). ``bare`` is the value of a flag that ends without its (then optional) value.
    ``ignored``: the original accepts it and does nothing with it.
    """

    names: tuple[str, ...]
    values: tuple[str, ...]
    targets: tuple[str, ...]
    help: str
    unit: str = ""
    default: str = ""
    read: Callable[[str], Any] = number
    constant: Any = True
    words: tuple[str, ...] = ()
    bare: str | None = None
    ignored: bool = False


def flag(names: str, values: str, targets: str, help_text: str, **more: Any) -> Flag:
    """A row of the table, from words separated by blanks."""
    return Flag(tuple(names.split()), tuple(values.split()), tuple(targets.split()), help_text, **more)


def _file(names: str, target: str, help_text: str, **more: Any) -> Flag:
    return flag(names, "<file>", target, help_text, read=str, **more)


def _vector(names: str, target: str, help_text: str, **more: Any) -> Flag:
    return flag(names, "<x> <y> <z>", target, help_text, **more)


def _switch(names: str, target: str, help_text: str, constant: Any = True, **more: Any) -> Flag:
    return flag(names, "", target, help_text, constant=constant, **more)


FLAGS: dict[str, Sequence[Flag]] = {
    "Input files": (
        _file("-hkl", "hkl", "structure factors: text h k l F, MTZ or mmCIF; no symmetry is imposed on text"),
        _file("-mat", "mat", "MOSFLM orientation matrix: a*, b*, c* in columns, times the wavelength"),
        _file("-img", "img", "take the geometry from this SMV header; flags override it"),
        _file("-mask", "mask", "skip pixels that are zero in this SMV image; geometry from its header as well"),
        _file("-sourcefile", "sourcefile", "sources: x y z weight wavelength[m]; all count alike"),
        _file("-dump", "dump", "binary structure factors: read without -hkl, written with it", default="Fdump.bin"),
    ),
    "Crystal": (
        flag("-cell", "<a> <b> <c> <al> <be> <ga>", "cell", "unit cell", unit="Å, degrees"),
        flag(
            "-misset",
            "<x> <y> <z>",
            "misset",
            "rotate the crystal about lab x, then y, then z; or one word: random",
            unit="degrees",
            default="0 0 0",
            words=("random",),
        ),
        flag("-misset_seed", "<n>", "misset_seed", "seed of -misset random", default="-seed", read=count),
        flag("-default_F", "<F>", "default_F", "F of reflections that are not listed", unit="electrons", default="0"),
        flag("-N", "<n>", "n_a n_b n_c", "unit cells along every axis", default="1"),
        flag("-Na", "<n>", "n_a", "unit cells along a", default="1"),
        flag("-Nb", "<n>", "n_b", "unit cells along b", default="1"),
        flag("-Nc", "<n>", "n_c", "unit cells along c", default="1"),
        flag(
            "-samplesize -sample_size -xtalsize -xtal_size",
            "<size>",
            "sample_x sample_y sample_z",
            "crystal size, in place of -N; y and z are clipped to the beam",
            unit="mm",
        ),
        flag("-sample_thick -sample_x -xtal_thick -xtal_x", "<size>", "sample_x", "size along a", unit="mm"),
        flag("-sample_width -sample_y -xtal_width -xtal_y -width", "<size>", "sample_y", "size along b", unit="mm"),
        flag("-sample_height -sample_z -xtal_height -xtal_z -height", "<size>", "sample_z", "size along c", unit="mm"),
        _switch("-square_xtal", "shape", "parallelepiped: sin(πNh)/sin(πh)", "square", default="on"),
        _switch("-round_xtal", "shape", "ball-shaped crystal", "round"),
        _switch("-gauss_xtal", "shape", "gaussian spots, in reciprocal distance", "gauss"),
        _switch("-gauss_hkl_xtal", "shape", "gaussian spots, in fractional Miller index", "gauss_hkl"),
        _switch("-binary_spots -tophat_spots", "shape", "spots with a sharp edge", "tophat"),
        flag("-fudge", "<x>", "fudge", "scale of the spot radius of round, gaussian and tophat", default="1"),
        flag(
            "-mosaic -mosaici -mosaic_spread -mosaic_spr",
            "<angle>",
            "mosaic_spread",
            "isotropic mosaic spread",
            unit="degrees",
            default="0",
        ),
        flag("-mosaic_dom -mosaic_domains", "<n>", "mosaic_domains", "mosaic domains", default="10, or 1", read=count),
        flag("-mosaic_seed", "<n>", "mosaic_seed", "seed of the domains", default="-12345678", read=count),
    ),
    "Spindle": (
        flag("-phi", "<angle>", "phi", "start of the rotation", unit="degrees", default="0"),
        flag("-osc", "<angle>", "osc", "range of the rotation", unit="degrees", default="0"),
        flag("-phistep", "<angle>", "phi_step", "step of the rotation", unit="degrees", default="from the others"),
        flag("-phisteps", "<n>", "phi_steps", "number of steps", default="2 with a range", read=count),
        _vector("-spindle_axis", "spindle_axis", "rotation axis (selects the custom convention)"),
    ),
    "Beam": (
        flag("-lambda -wave", "<length>", "wavelength", "wavelength", unit="Å", default="1"),
        flag("-energy", "<energy>", "wavelength", "photon energy", unit="eV", read=electronvolts),
        flag("-dispersion", "<range>", "dispersion", "spectral width", unit="percent", default="0"),
        flag("-dispsteps", "<n>", "dispersion_steps", "wavelengths", default="2 with a range", read=count),
        flag("-divergence", "<range>", "hdiv_range vdiv_range", "beam divergence, both ways", unit="mrad", default="0"),
        flag("-hdivrange", "<range>", "hdiv_range", "horizontal divergence", unit="mrad", default="0"),
        flag("-vdivrange", "<range>", "vdiv_range", "vertical divergence", unit="mrad", default="0"),
        flag("-hdivstep", "<step>", "hdiv_step", "horizontal step", unit="mrad"),
        flag("-vdivstep", "<step>", "vdiv_step", "vertical step", unit="mrad"),
        flag("-hdivsteps", "<n>", "hdiv_steps", "horizontal points", default="2 with a range", read=count),
        flag("-vdivsteps", "<n>", "vdiv_steps", "vertical points", default="2 with a range", read=count),
        flag("-divsteps", "<n>", "hdiv_steps vdiv_steps", "points both ways", read=count),
        _switch("-round_div", "round_divergence", "drop divergence points outside an ellipse", default="on"),
        _switch("-square_div", "round_divergence", "keep every divergence point", constant=False),
        flag("-polar", "<K>", "polar", "Kahn polarization factor, -1 … 1", default="0"),
        _switch("-nopolar", "nopolar", "polarization factor 1 everywhere"),
        flag("-fluence", "<n>", "fluence", "photons per area", unit="photons/m²", default="1.25932e+29"),
        flag("-flux", "<n>", "flux", "with -exposure and -beamsize: replaces -fluence", unit="photons/s"),
        flag("-exposure", "<time>", "exposure", "exposure time", unit="s", default="1"),
        flag("-beamsize", "<size>", "beam_size", "side of the beam", unit="mm", default="0.1"),
        flag("-water", "<size>", "water", "cube of water in the beam", unit="µm", default="0", read=microns),
    ),
    "Detector": (
        flag("-pixel", "<size>", "pixel", "pixel size", unit="mm", default="0.1"),
        flag("-detpixels", "<n>", "pixels_fast pixels_slow", "pixels both ways", default="1024", read=count),
        flag("-detpixels_f -detpixels_x", "<n>", "pixels_fast", "pixels along fast", read=count),
        flag("-detpixels_s -detpixels_y", "<n>", "pixels_slow", "pixels along slow", read=count),
        flag("-detsize", "<size>", "size_fast size_slow", "detector size both ways", unit="mm", default="102.4"),
        flag("-detsize_f", "<size>", "size_fast", "size along fast", unit="mm"),
        flag("-detsize_s", "<size>", "size_slow", "size along slow", unit="mm"),
        flag("-distance", "<length>", "distance", "distance along the beam", unit="mm", default="100"),
        flag("-close_distance", "<length>", "close_distance", "distance along the detector normal", unit="mm"),
        _switch("-point_pixel", "point_pixel", "solid angle 1/R² with R in metres, no obliquity"),
        flag("-detector_rotx", "<angle>", "rot_x", "detector rotation about lab x", unit="degrees", default="0"),
        flag("-detector_roty", "<angle>", "rot_y", "then about lab y", unit="degrees", default="0"),
        flag("-detector_rotz", "<angle>", "rot_z", "then about lab z", unit="degrees", default="0"),
        flag("-twotheta", "<angle>", "twotheta", "then about the 2θ axis", unit="degrees", default="0"),
        _vector("-twotheta_axis", "twotheta_axis", "2θ axis (selects the custom convention)"),
        _switch("-curved_det", "curved", "all pixels at the same distance, bent around the sample"),
        flag(
            "-detector_abs",
            "<depth>",
            "attenuation",
            "attenuation depth of the sensor; inf or 0: no sensor",
            unit="µm",
            default="inf",
            read=attenuation,
        ),
        flag("-detector_thick", "<size>", "thickness", "sensor thickness", unit="µm", default="0", read=microns),
        flag(
            "-detector_thicksteps -thicksteps",
            "<n>",
            "thick_steps",
            "sensor layers",
            default="2 with a thickness",
            read=count,
        ),
    ),
    "Convention and beam centre": (
        _switch("-mosflm", "convention", "MOSFLM convention", "MOSFLM", default="on"),
        _switch("-xds", "convention", "XDS convention", "XDS"),
        _switch("-adxv", "convention", "ADXV convention", "ADXV"),
        _switch("-denzo", "convention", "DENZO convention", "DENZO"),
        _switch("-dials", "convention", "DIALS convention", "DIALS"),
        flag(
            "-pivot",
            "<beam|sample>",
            "pivot",
            "what stays in place under detector rotations; wins over everything",
            default="the convention's",
            read=choice("beam", "sample"),
        ),
        flag("-Xbeam", "<x>", "x_beam", "direct beam, as the convention counts", unit="mm", default="the middle"),
        flag("-Ybeam", "<y>", "y_beam", "direct beam, as the convention counts", unit="mm", default="the middle"),
        flag("-Xclose", "<x>", "x_close", "the detector's point nearest to the sample", unit="mm"),
        flag("-Yclose", "<y>", "y_close", "the detector's point nearest to the sample", unit="mm"),
        flag("-ORGX", "<x>", "org_x", "XDS: pixel nearest to the sample, fast", unit="pixels"),
        flag("-ORGY", "<y>", "org_y", "XDS: pixel nearest to the sample, slow", unit="pixels"),
        _vector("-fdet_vector", "fast_vector", "direction of increasing fast (selects the custom convention)"),
        _vector("-sdet_vector", "slow_vector", "direction of increasing slow (custom)"),
        _vector("-odet_vector", "normal_vector", "detector normal (custom)"),
        _vector("-beam_vector", "beam_vector", "direction of travel of the beam (custom)"),
        _vector("-polar_vector", "polar_vector", "electric vector of the beam (custom)"),
        _vector("-pix0_vector", "pix0", "corner of the first pixel, before rotations (custom)", unit="m", read=metres),
        _vector("-pix0_vector_mm", "pix0", "corner of the first pixel, before rotations (custom)", unit="mm"),
    ),
    "Sampling": (
        flag("-oversample", "<n>", "oversample", "sub-pixels each way", default="from the crystal size", read=count),
        _switch("-oversample_thick", "oversample_thick", "multiply the running sum by the absorbed fraction"),
        _switch("-oversample_polar", "oversample_polar", "multiply the running sum by the polarization"),
        _switch("-oversample_omega", "oversample_omega", "multiply the running sum by the solid angle"),
        _switch("-interpolate", "interpolate", "tricubic structure factors", default="on if any N ≤ 2"),
        _switch("-nointerpolate", "interpolate", "nearest structure factor", constant=False),
        flag("-dmin", "<d>", "dmin", "leave out samples of higher resolution", unit="Å", default="0"),
        flag("-roi", "<xmin> <xmax> <ymin> <ymax>", "roi", "render these pixels only, bounds included", read=count),
        flag("-seed", "<n>", "seed", "seed of the noise", default="the clock", read=count),
    ),
    "Output (an image is written only when its flag is given)": (
        _file("-floatfile -floatimage", "float_file", "raw float32 photons, fast axis first", bare="floatimage.bin"),
        _file("-intfile -intimage", "int_file", "16-bit SMV image", bare="intimage.img"),
        flag("-scale", "<x>", "int_scale", "scale of the SMV image", default="55000/max"),
        flag("-adc", "<x>", "adc", "offset of the SMV and noise images", default="40"),
        _file("-pgmfile -pgmimage", "pgm_file", "8-bit preview", bare="image.pgm"),
        flag("-pgmscale", "<x>", "pgm_scale", "scale of the preview", default="250/(5·rmsd)"),
        _switch("-nopgm", "no_pgm", "no preview, even with -pgmfile"),
        _file("-noisefile -noiseimage", "noise_file", "16-bit SMV with photon noise", bare="noiseimage.img"),
        _switch("-nonoise", "no_noise", "no noise image, even with -noisefile"),
        _switch("-printout", "printout", "print every rendered pixel"),
        flag("-printout_pixel", "<fast> <slow>", "printout_pixel", "print this pixel only", read=count),
        flag("-trace_pixel", "<slow> <fast>", "trace_pixel", "print every factor of this pixel", read=count),
        _switch("-trace_all", "trace_all", "trace every source, spindle step and domain too"),
        _switch("-progress", "progress", "progress meter (on a terminal only)", default="on"),
        _switch("-noprogress", "progress", "no progress meter", constant=False),
    ),
    "Beyond the original": (
        flag("-device", "<name>", "device", "where to compute: cpu, cuda, cuda:1", default="cpu", read=str),
        flag(
            "-dtype",
            "<name>",
            "dtype",
            "float64 or float32",
            default="float64",
            read=choice("float64", "float32"),
        ),
        flag(
            "-backend",
            "<name>",
            "backend",
            "auto, reference (PyTorch), native (compiled C) or triton (on a GPU)",
            default="auto",
            read=choice("auto", "reference", "native", "triton"),
        ),
        flag(
            "-compat",
            "<nanobragg>",
            "compat",
            "the original's faults too: stale vectors at phi 0, -pix0_vector and -pivot not honoured",
            read=choice("nanobragg"),
        ),
        _switch("-exact_cell", "exact_cell", "simulate exactly the cell that is asked for"),
        _switch("-exact_corrections", "exact_corrections", "each sample with its own absorption, polarization, angle"),
        _switch("-phi_midpoint", "phi_midpoint", "spindle steps at their middles, not their left edges"),
        _switch("-exact", "exact_cell exact_corrections phi_midpoint", "the last three at once"),
        _switch("-h -help --help", "help", "this text"),
    ),
    "Accepted, without effect": (
        _file("-stol", "stol", "the original reads it and does nothing with it", ignored=True),
        _file("-4stol", "four_stol", "likewise", ignored=True),
        _file("-Q", "q_file", "likewise", ignored=True),
        _file("-stolout", "stolout", "likewise", ignored=True),
        flag("-density", "<x>", "density", "likewise", unit="g/cm³", ignored=True),
        flag("-MW", "<x>", "molecular_weight", "likewise", unit="Da", ignored=True),
    ),
}
