"""Why two programs may part at a factor: what is known to differ between them, and what the factor is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Side:
    """What one program was told, as far as it can explain a difference. ``original``: it keeps nanoBragg's faults."""

    name: str
    original: bool = False
    exact_cell: bool = False
    exact_corrections: bool = False
    phi_midpoint: bool = False


@dataclass(frozen=True)
class Facts:
    """What was simulated. ``phis``: spindle angles (degrees); ``zero_step``: the step at phi exactly 0, if any."""

    py: Side
    c: Side
    phis: tuple[float, ...] = (0.0,)
    triclinic: bool = False
    origin_given: bool = False
    pivot_given: bool = False
    tricubic: bool = False
    foreign: bool = False  # the C program is not the one that ships with nbtorch
    twotheta_axis: bool = False
    dtype: str = "float64"
    only_py: tuple[str, ...] = field(default=())
    only_c: tuple[str, ...] = field(default=())

    @property
    def zero_step(self) -> int | None:
        """The step at which the original skips the rotation; with a single step nothing else could be kept."""
        return self.phis.index(0.0) if len(self.phis) > 1 and 0.0 in self.phis else None


@dataclass(frozen=True)
class Rule:
    """``say`` explains a divergence at one of ``factors`` (empty: at any) when ``applies``."""

    factors: frozenset[str]
    applies: Callable[[Facts], bool]
    say: Callable[[Facts], str]


def _names(*groups: str) -> frozenset[str]:
    return frozenset(name for group in groups for name in group.split())


ORIENTATION = "rot_a_angstroms rot_b_angstroms rot_c_angstroms"
STARS = "rot_a_star_A_inv rot_b_star_A_inv rot_c_star_A_inv"
INDICES = "hkl_frac hkl_rounded F_latt_a F_latt_b F_latt_c F_latt F_cell"
PLACE = "pix0_vector_meters fdet_vec sdet_vec pixel_pos_meters R_distance_meters omega_pixel_sr close_distance_meters"
SUM = "I_before_scaling I_pixel_final"


def _stale(facts: Facts) -> str:
    step = facts.zero_step or 0
    keeps, turns = (facts.py, facts.c) if facts.py.original else (facts.c, facts.py)
    kept = facts.phis[step - 1]  # of step 0: the last step, of the pixel before
    how = "is nanoBragg, which" if keeps is facts.c and facts.foreign else "ran with -compat nanobragg, which"
    return (
        f"phi is exactly 0 at step {step}. {keeps.name} {how} skips the rotation there and keeps the vectors of the "
        f"step before, at phi = {kept:g} degrees; {turns.name}, without that flag, turns the crystal to phi = 0. "
        "Give -compat nanobragg to both programs, or to neither, or start at another phi"
    )


RULES: tuple[Rule, ...] = (
    Rule(
        _names(ORIENTATION, INDICES, SUM),
        lambda facts: facts.zero_step is not None and facts.py.original != facts.c.original,
        _stale,
    ),
    Rule(
        _names(PLACE),
        lambda facts: facts.origin_given and facts.py.original != facts.c.original,
        lambda facts: (
            "-pix0_vector places the detector, but under -compat nanobragg, as in the original, it only selects the "
            "custom convention and the pivot places it"
        ),
    ),
    Rule(
        _names(PLACE),
        lambda facts: facts.pivot_given and facts.py.original != facts.c.original,
        lambda facts: "-pivot wins over a named convention, except under -compat nanobragg, as in the original",
    ),
    Rule(
        _names(PLACE),
        lambda facts: facts.foreign and facts.twotheta_axis,
        lambda facts: (
            "the original matches parts of flags: its -twotheta_axis also sets 2theta, to the axis' first number"
        ),
    ),
    Rule(
        _names(ORIENTATION, STARS, INDICES),
        lambda facts: facts.triclinic and facts.py.exact_cell != facts.c.exact_cell,
        lambda facts: (
            "one program was given -exact_cell: nanoBragg's own construction changes the angles of a cell whose alpha "
            "or beta is not 90 degrees"
        ),
    ),
    Rule(
        _names(ORIENTATION, INDICES, SUM),
        lambda facts: facts.py.phi_midpoint != facts.c.phi_midpoint,
        lambda facts: "one program was given -phi_midpoint: its spindle steps are half a step further on",
    ),
    Rule(
        _names(SUM, "capture_fraction polar omega_pixel omega_pixel_sr"),
        lambda facts: facts.py.exact_corrections != facts.c.exact_corrections,
        lambda facts: "one program was given -exact_corrections: it weights each term, the other one the whole sum",
    ),
    Rule(
        _names("F_cell", SUM),
        lambda facts: facts.foreign and facts.tricubic,
        lambda facts: (
            "the original's tricubic interpolation switches itself off for good at the first sample near an edge"
        ),
    ),
    Rule(
        frozenset(),
        lambda facts: facts.dtype == "float32",
        lambda facts: (
            "the Python computed in float32: large N and high indices magnify its rounding. Take -dtype float64"
        ),
    ),
)

#: What a factor is made of, where no rule knows better.
MADE_OF = {
    "pix0_vector_meters": "the pivot, the beam centre, the distance and the detector rotations",
    "fdet_vec": "the convention, -fdet_vector, the detector rotations and 2theta",
    "sdet_vec": "the convention, -sdet_vector, the detector rotations and 2theta",
    "pixel_pos_meters": "pix0, the pixel size, the sub-pixel, the sensor layer and -curved_det",
    "omega_pixel_sr": "the pixel size, the distance and the obliquity, or -point_pixel",
    "close_distance_meters": "pix0 along the detector normal",
    "incident_vec": "the beam vector, divergence and -sourcefile",
    "lambda_meters": "the wavelength, dispersion and -sourcefile",
    "lambda_angstroms": "the wavelength, dispersion and -sourcefile",
    "rot_a_star_A_inv": "the cell or the matrix, its construction, and the misset",
    "rot_a_angstroms": "the cell or the matrix, the misset, the spindle's first angle and axis",
    "hkl_frac": "the direct vectors and the scattering vector",
    "hkl_rounded": "hkl_frac next to a half: the nearest reflection flips with the last bit",
    "F_latt": "the crystal's shape, its size in cells and -fudge",
    "F_cell": "the structure factors: the table, -default_F and the interpolation",
    "I_before_scaling": "the sum over samples, sources, spindle steps and domains, of which the trace shows the first "
    "of each: see per_phi.log",
    "fluence_photons_per_m2": "-fluence, or -flux, -exposure and -beamsize",
    "steps": "sources, domains, spindle steps and oversampling: they must be the same in number",
    "capture_fraction": "-detector_abs, -detector_thick and -detector_thicksteps",
    "polar": "-polar, -nopolar and the polarization vector",
}


def why(name: str, facts: Facts, *, one_sided: bool = False) -> str:
    """Why the programs may part at factor ``name``: one paragraph. ``one_sided``: only one of them printed it."""
    said = [rule.say(facts) for rule in RULES if (not rule.factors or name in rule.factors) and rule.applies(facts)]
    if one_sided:
        said = ["One program has a sample that the other has not: the oversampling, the sensor layers or -dmin differ"]
    elif not said:
        said = [f"{name} is made of {MADE_OF[name]}" if name in MADE_OF else f"{name} follows from the lines above it"]
    for side, words in ((facts.py, facts.only_py), (facts.c, facts.only_c)):
        if words:
            said.append(f"Given to {side.name} alone: {' '.join(words)}")
    return ". ".join(said) + "."
