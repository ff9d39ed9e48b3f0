"""Random commands: seeded draws of flags that both programs take, each flag with its values one droppable group."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Group = tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """``base``: what no command can do without; ``extra``: everything else, in command-line order, by flag."""

    base: tuple[Group, ...]
    extra: tuple[Group, ...]

    @property
    def words(self) -> list[str]:
        """The command line."""
        return [word for group in (*self.base, *self.extra) for word in group]

    def without(self, index: int) -> Command:
        """The command less one of its extra flags."""
        return Command(self.base, self.extra[:index] + self.extra[index + 1 :])


def shrink(command: Command, fails: Callable[[Command], bool]) -> Command:
    """The smallest command that still fails: flags go one at a time until none can go."""
    index = 0
    while index < len(command.extra):
        smaller = command.without(index)
        if fails(smaller):
            command, index = smaller, 0
        else:
            index += 1
    return command


def draw(seed: int) -> Command:
    """The ``seed``-th command: the same on every machine."""
    rng = Draw(seed)
    crystal, needed = rng.crystal()
    extra = [
        *crystal,
        *rng.shape(),
        *rng.spindle(),
        *rng.mosaic(),
        *rng.wavelength(),
        *rng.spectrum(),
        *rng.flux(),
        *rng.placement(),
        *rng.sensor(),
        *rng.sampling(),
        *rng.choices(),
    ]
    rng.shuffle(extra)
    return Command((*needed, *rng.detector()), tuple(extra))


class Draw(random.Random):
    """One method a subject; each returns the flags it drew. Numbers have few digits, as people type them."""

    def number(self, low: float, high: float, digits: int = 3) -> str:
        return f"{self.uniform(low, high):.{digits}g}"

    def whole(self, low: int, high: int) -> str:
        return str(self.randint(low, high))

    def vector(self, around: Sequence[float], spread: float) -> Group:
        return tuple(f"{x + self.uniform(-spread, spread):.5f}" for x in around)

    def maybe(self, chance: float, *group: str) -> list[Group]:
        return [group] if self.random() < chance else []

    def one(self, *groups: Group) -> list[Group]:
        """One of ``groups``; the empty group stands for none."""
        chosen = self.choice(groups)
        return [chosen] if chosen else []

    def crystal(self) -> tuple[list[Group], list[Group]]:
        """(flags that may go, flags that must stay): lattice, orientation, structure factors, size."""
        needed = [("-default_F", self.number(5, 100))]
        if self.random() < 0.15:
            needed.append(("-mat", "A.mat"))
        else:
            needed.append(("-cell", *self.cell()))
        angles = [self.number(-180, 180, 4) for _ in range(3)]
        extra = [*self.maybe(0.15, "-misset", "random"), *self.maybe(0.8, "-misset", *angles)]
        extra += [*self.maybe(0.3, "-misset_seed", self.whole(1, 99999)), ("-seed", self.whole(1, 99999))]
        extra += self.one(("-hkl", "dense.hkl"), ("-hkl", "dense.hkl"), ("-hkl", "sparse.hkl"), ())
        extra += self.one(("-interpolate",), ("-nointerpolate",), ("-nointerpolate",), ())
        return extra + self.size(), needed

    def cell(self) -> Group:
        edges = [self.number(30, 110, 4) for _ in range(3)]
        kind = self.choice(("orthogonal", "monoclinic", "triclinic", "triclinic"))
        if kind == "orthogonal":
            return (*edges, "90", "90", "90")
        if kind == "monoclinic":
            return (*edges, "90", self.number(91, 115, 4), "90")
        return (*edges, *(self.number(75, 105, 4) for _ in range(3)))

    def size(self) -> list[Group]:
        counts = [("-N", self.whole(1, 12)), ("-N", self.whole(3, 12)), ("-N", "5")]
        extra = self.one(*counts)
        for name in ("-Na", "-Nb", "-Nc"):
            extra += self.maybe(0.15, name, self.whole(1, 30))
        extra += self.maybe(0.1, self.choice(("-xtalsize", "-sample_size")), self.number(1e-5, 8e-5, 2))
        name = self.choice(("-sample_x", "-xtal_thick", "-sample_width", "-xtal_y", "-width", "-height", "-xtal_z"))
        return extra + self.maybe(0.1, name, self.number(1e-5, 8e-5, 2))

    def shape(self) -> list[Group]:
        names = ("-square_xtal", "-round_xtal", "-gauss_xtal", "-tophat_spots", "-binary_spots", "-gauss_hkl_xtal")
        return self.maybe(0.45, self.choice(names)) + self.maybe(0.25, "-fudge", self.number(0.05, 2))

    def spindle(self) -> list[Group]:
        extra = self.maybe(0.45, "-phi", self.choice((self.number(-90, 90), "-1", "0")))
        extra += self.maybe(0.35, "-osc", self.choice((self.number(0.1, 3), "2")))
        extra += self.maybe(0.15, "-phistep", self.choice((self.number(0.3, 2), "1")))
        extra += self.maybe(0.3, "-phisteps", self.whole(0, 5))
        extra += self.maybe(0.15, "-phi_midpoint")
        return extra + self.maybe(0.1, "-spindle_axis", *self.vector((0, 0, 1), 1))

    def mosaic(self) -> list[Group]:
        extra = self.maybe(0.3, self.choice(("-mosaic", "-mosaici", "-mosaic_spread")), self.number(0.05, 2))
        extra += self.maybe(0.25, self.choice(("-mosaic_dom", "-mosaic_domains")), self.whole(1, 6))
        return extra + self.maybe(0.15, "-mosaic_seed", self.choice((self.whole(1, 99999), "-" + self.whole(1, 999))))

    def wavelength(self) -> list[Group]:
        name = self.choice(("-lambda", "-wave"))
        return self.one((name, self.number(0.7, 3, 4)), (name, "1"), ("-energy", self.number(6000, 16000, 5)), ())

    def spectrum(self) -> list[Group]:
        """Sources: a file, or divergence and dispersion."""
        if self.random() < 0.1:
            return [("-sourcefile", "sources.txt")]
        extra = self.maybe(0.2, "-dispersion", self.number(0.1, 4)) + self.maybe(0.15, "-dispsteps", self.whole(0, 3))
        extra += self.maybe(0.1, "-divergence", self.number(0.2, 5)) + self.maybe(0.05, "-divsteps", self.whole(0, 3))
        for way in "hv":
            extra += self.maybe(0.08, f"-{way}divrange", self.number(0.2, 5))
            extra += self.maybe(0.08, f"-{way}divstep", self.number(0.5, 3))
            extra += self.maybe(0.08, f"-{way}divsteps", self.whole(0, 4))
        return extra + self.one(("-round_div",), ("-square_div",), (), (), ())

    def flux(self) -> list[Group]:
        extra = self.maybe(0.35, "-polar", self.number(-1, 1)) + self.maybe(0.1, "-nopolar")
        extra += self.maybe(0.2, "-fluence", self.number(1e20, 1e29)) + self.maybe(0.15, "-flux", "1e18")
        extra += self.maybe(0.1, "-exposure", self.number(0.1, 3)) + self.maybe(0.1, "-beamsize", self.number(2e-5, 1))
        return extra + self.maybe(0.2, "-water", self.number(1, 10))

    def detector(self) -> list[Group]:
        """What must stay: few and large pixels."""
        across = self.choice((("-detpixels",), ("-detpixels_f", "-detpixels_s"), ("-detpixels_x", "-detpixels_y")))
        return [*((name, self.whole(16, 36)) for name in across), ("-pixel", self.number(0.3, 2.5))]

    def placement(self) -> list[Group]:
        extra = self.one(("-mosflm",), ("-xds",), ("-adxv",), ("-denzo",), ("-dials",), (), (), ())
        extra += self.maybe(0.5, "-distance", self.number(50, 250))
        extra += self.maybe(0.2, "-close_distance", self.number(50, 250))
        for name in ("-Xbeam", "-Ybeam", "-Xclose", "-Yclose"):
            extra += self.maybe(0.2, name, self.number(-5, 40))
        for name in ("-ORGX", "-ORGY"):
            extra += self.maybe(0.15, name, self.number(-5, 60))
        extra += self.maybe(0.15, "-pivot", self.choice(("beam", "sample")))
        for name in ("-detector_rotx", "-detector_roty", "-detector_rotz"):
            extra += self.maybe(0.2, name, self.number(-25, 25))
        extra += self.maybe(0.2, "-twotheta", self.number(-30, 30))
        extra += self.maybe(0.05, "-twotheta_axis", *self.vector((0, 0.5, 0.5), 0.5))
        return extra + self.vectors()

    def vectors(self) -> list[Group]:
        """Now and then a detector given by its vectors, as beamlines do."""
        extra = self.maybe(0.06, "-beam_vector", *self.vector((1, 0, 0), 0.05))
        extra += self.maybe(0.06, "-polar_vector", *self.vector((0, 0.5, 1), 0.3))
        if self.random() < 0.06:
            extra += [("-fdet_vector", "0.02", "0", "0.9998"), ("-sdet_vector", "0", "-1", "0.001")]
            extra += self.maybe(0.5, "-odet_vector", *self.vector((1, 0, 0), 0.02))
        origin = [self.number(90, 120), self.number(-10, 30), self.number(-30, 10)]
        extra += self.maybe(0.06, "-pix0_vector_mm", *origin)
        return extra + self.maybe(0.03, "-pix0_vector", *(f"{float(x) / 1000:.5g}" for x in origin))

    def sensor(self) -> list[Group]:
        extra = self.maybe(0.25, "-detector_thick", self.number(50, 900))
        extra += self.maybe(0.3, "-detector_abs", self.choice((self.number(100, 900), "inf", self.number(100, 900))))
        name = self.choice(("-detector_thicksteps", "-thicksteps"))
        extra += self.maybe(0.2, name, self.whole(0, 3))
        return extra + self.maybe(0.1, "-point_pixel") + self.maybe(0.1, "-curved_det")

    def sampling(self) -> list[Group]:
        extra = [("-oversample", self.choice(("1", "1", "2", "3")))]
        for name in ("-oversample_thick", "-oversample_polar", "-oversample_omega"):
            extra += self.maybe(0.12, name)
        extra += self.maybe(0.15, "-dmin", self.number(1.5, 8))
        corners = sorted(self.randint(0, 15) for _ in range(2)), sorted(self.randint(0, 20) for _ in range(2))
        return extra + self.maybe(0.15, "-roi", *(str(edge) for pair in corners for edge in pair))

    def choices(self) -> list[Group]:
        """Our own flags, and geometry from a header."""
        extra = self.maybe(0.25, "-compat", "nanobragg") + self.maybe(0.2, "-exact_cell")
        extra += self.maybe(0.12, "-exact_corrections")
        return extra + self.one(("-img", "header.img"), *((),) * 9)
