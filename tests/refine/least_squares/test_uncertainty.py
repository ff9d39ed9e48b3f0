"""Error bars: against the scatter of simulated fits, against a bootstrap, and where there is nothing to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nbtorch.models import Beam
from refine.least_squares.arrow_inverse import times
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.uncertainty import Uncertainty, information, uncertainty
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.objective import PixelObjective
from tests.refine import tiny

FREE = ("detector.*.shift_*", "crystal[0].rot_*", "crystal[0].n_*")
DRAWS = 60


def scene(
    free: Sequence[str] = FREE, crystals: int = 1, strength: float = 1.0, panels: int = 1, **more: object
) -> tiny.Tiny:
    """Simulated at the start, so that its fits are of noise alone."""
    expts = tiny.experiments(crystals, panels)
    parameters = tiny.parameter_set(expts, free)
    return tiny.simulate(expts, parameters, parameters.start, strength, **more)  # type: ignore[arg-type]


def known_of(objective: PixelObjective, parameters: ParameterSet) -> Uncertainty:
    return uncertainty(objective, parameters, objective.linearize(parameters))


def one_step(objective: PixelObjective, made: tiny.Tiny) -> Tensor:
    """How far from the start [free] a Gauss–Newton step leads, where all Jacobians are those of the start."""
    parameters = made.start()
    LevenbergMarquardt(1e-9).step(objective, parameters)
    return (parameters.values.detach() - parameters.start)[parameters.free]


def fit(objective: PixelObjective, parameters: ParameterSet, most: int = 12) -> Tensor:
    """The values [free] of a fit that went to its end."""
    solver = LevenbergMarquardt()
    for _ in range(most):
        step = solver.step(objective, parameters)
        if not step.accepted or step.move < 0.02:
            break
    return parameters.values.detach()[parameters.free]


@pytest.mark.parametrize("free_scales", [True, False])
def test_the_fisher_sigmas_are_the_scatter_of_simulated_fits(rng: np.random.Generator, *, free_scales: bool) -> None:
    made = scene() if free_scales else scene((*FREE, "*.scale"))
    base = tiny.freeze_jacobians(made.objective(free_scales=free_scales), made.start())
    sigma = known_of(base, made.start()).model
    z = torch.stack([one_step(tiny.with_counts(base, made.counts(rng)), made) for _ in range(DRAWS)]) / sigma
    # a width from 60 draws is known to 1/√120 = 9 %; four sigmas of that for each of nine or ten parameters
    assert z.std(0).sub(1).abs().max() < 0.37  # worst seen 0.19
    assert z.mean(0).abs().max() < 0.52  # four sigmas of 1/√60; worst seen 0.20
    assert float(z.std()) == pytest.approx(1, abs=0.12)  # all of them together; seen 1.02 and 1.07


def displacements(made: tiny.Tiny, size: float, rng: np.random.Generator) -> list[Tensor]:
    """Counts of spots that each lie off by a random ``size`` (mm) along both axes: shapes that are not the model's."""
    counts = []
    for block, mean in zip(made.blocks, made.means, strict=True):
        columns = block.jacobian(made.parameters)[1][..., :2]  # the shifts along fast and slow
        off = size * torch.as_tensor(rng.standard_normal((len(mean), 2, 1)))
        moved = (mean + (columns @ off)[..., 0]).clamp(min=0.1) * block.boxes.valid
        counts.append(torch.as_tensor(rng.poisson(moved.numpy()).astype(float)))
    return counts


def test_the_sandwich_holds_where_each_reflection_is_off_by_more_than_its_noise(rng: np.random.Generator) -> None:
    made = scene(FREE[:2], strength=3.0, panels=2)  # 44 reflections
    base = tiny.freeze_jacobians(made.objective(), made.start())
    steps, fisher, sandwich = [], [], []
    for _ in range(32):
        objective = tiny.with_counts(base, displacements(made, 0.03, rng))
        steps.append(one_step(objective, made))
        known = known_of(objective, made.parameters)
        fisher.append(known.model)
        sandwich.append(known.sandwich)
    scatter = torch.stack(steps).std(0)
    too_small, about_right = (scatter / torch.stack(s).square().mean(0).sqrt() for s in (fisher, sandwich))
    assert float(too_small.min()) > 1.8  # Fisher knows of photons alone; least seen 2.8
    # a width from 32 draws is known to 12 %, and a jackknife is on the large side where reflections are few;
    # seen 0.85 … 1.19
    assert float(about_right.min()) > 0.6
    assert float(about_right.max()) < 1.4


def test_where_the_model_is_right_both_sigmas_agree(rng: np.random.Generator) -> None:
    made = scene(FREE[:2], strength=3.0, panels=2)
    base, ratios = tiny.freeze_jacobians(made.objective(), made.start()), []
    for _ in range(16):
        objective = tiny.with_counts(base, made.counts(rng))
        one_step(objective, made)
        known = known_of(objective, made.parameters)
        ratios.append((known.sandwich / known.model) ** 2)
    mean = torch.stack(ratios).mean(0).sqrt()
    # seen 1.02 … 1.12
    assert float(mean.min()) > 0.85
    assert float(mean.max()) < 1.35


def test_the_sandwich_agrees_with_a_bootstrap_over_reflections(rng: np.random.Generator) -> None:
    made = scene(("detector.*.shift_fast", "detector.*.shift_slow", "crystal[0].n_*"), strength=3.0, panels=2)
    base = tiny.freeze_jacobians(made.objective(), made.start())
    data = displacements(made, 0.02, rng)
    drawn = tiny.with_counts(base, data)
    best = made.parameters.start.clone()
    best[made.parameters.free] += one_step(drawn, made)
    with torch.no_grad():
        made.parameters.values.copy_(best)
    sandwich = known_of(drawn, made.parameters).sandwich
    ends = []
    count = len(data[0])
    for _ in range(50):
        again = torch.as_tensor(rng.multinomial(count, np.full(count, 1 / count)).astype(float))
        made.start(best)
        solver = LevenbergMarquardt(1e-9)
        solver.step(tiny.with_counts(base, data, [again]), made.parameters)
        ends.append(made.parameters.values.detach()[made.parameters.free].clone())
    ratio = torch.stack(ends).std(0) / sandwich
    # seen 0.79 … 1.03; 50 resamplings know a width to 10 %
    assert ratio.sub(1).abs().max() < 0.3


def test_sigmas_are_finite_where_one_reflection_has_all_the_leverage() -> None:
    """With one reflection the fit follows it wherever it goes: no scatter is left to tell the error from."""
    made = scene(("detector.*.shift_fast", "detector.*.shift_slow"), brightest=1)
    objective = made.objective(np.random.default_rng(4))
    parameters = made.start()
    fit(objective, parameters)
    known = known_of(objective, parameters)
    assert torch.isfinite(known.sandwich).all()
    assert torch.isfinite(known.model).all()


CAUSES = {
    "turn about the beam": (
        ("detector.*.shift_fast", "detector.*.rot_normal", "crystal[*].rot_*"),
        2,
        {"detector.detector.rot_normal", "crystal[0].rot_z", "crystal[1].rot_z"},
        "a rotation of the detector about its normal is a rotation of all crystals about the beam",
    ),
    "wavelength and cell": (
        ("detector.*.shift_fast", "beam.wavelength", "crystal[0].a", "crystal[0].b", "crystal[0].c"),
        1,
        {"beam.wavelength", "crystal[0].a", "crystal[0].b", "crystal[0].c"},
        "a longer wavelength moves spots as a smaller cell does",
    ),
}


@pytest.mark.parametrize("which", CAUSES)
def test_a_direction_that_no_pixel_feels_is_named_and_has_no_sigma(which: str) -> None:
    free, crystals, lost, reason = CAUSES[which]
    made = scene(free, crystals)
    known = known_of(made.objective(), made.start())
    (direction,) = known.undetermined
    assert reason in direction.reason
    assert "the data do not change at all" in direction.reason
    assert all(name in direction.combination for name in lost)
    without = {name for name, sigma in zip(known.names, known.model, strict=True) if torch.isnan(sigma)}
    assert without == lost
    assert torch.isnan(known.sandwich).equal(torch.isnan(known.model))
    assert float(known.model[known.names.index("detector.detector.shift_fast")]) < 0.02  # mm; what is known stays known


def test_distance_and_cell_scale_are_told_apart_by_many_photons_and_not_by_few() -> None:
    free = ("detector.*.shift_*", "crystal[0].a", "crystal[0].b", "crystal[0].c", "crystal[0].rot_*")
    many, few = (scene(free, strength=strength) for strength in (1000.0, 0.3))
    assert not known_of(many.objective(), many.start()).undetermined
    known = known_of(few.objective(), few.start())
    named = [row for row in known.undetermined if "a longer distance moves spots as a smaller cell does" in row.reason]
    assert named
    assert "detector.detector.shift_normal" in named[0].combination


def test_the_least_determined_direction_of_those_that_are_is_named() -> None:
    free = ("detector.*.shift_*", "crystal[0].a", "crystal[0].b", "crystal[0].c", "crystal[0].rot_*")
    made = scene(free, strength=1000.0)
    known = known_of(made.objective(), made.start())
    assert not known.undetermined
    assert known.weakest is not None
    assert "a longer distance moves spots as a smaller cell does" in known.weakest.reason
    assert "detector.detector.shift_normal" in known.weakest.combination


def test_a_tilt_of_the_beam_and_a_shift_of_the_detector_are_named_together() -> None:
    """Scales are free, and the crystal too: only the parallax of spots far out could tell, and the photons are few."""
    made = scene(("detector.*.shift_*", "beam.tilt_*", "crystal[0].rot_*"), strength=0.02)
    known = known_of(made.objective(), made.start())
    assert any(
        "a tilt of the beam moves spots as a shift of the detector does" in row.reason for row in known.undetermined
    )


def test_a_parameter_that_nothing_depends_on_is_named_alone() -> None:
    expts = tiny.experiments(1)
    expts[0].beam = Beam(replace(tiny.beam_config(), kahn_factor=0.5))
    parameters = tiny.parameter_set(expts, ["beam.polarization_fraction", "detector.*.shift_fast"])
    made = tiny.simulate(expts, parameters, parameters.start)
    (direction,) = known_of(made.objective(), made.start()).undetermined
    assert direction.combination == "+1 beam.polarization_fraction"
    assert "nothing in the data depends on it" in direction.reason


def test_a_restraint_is_what_is_known_of_a_parameter_that_the_data_do_not_see() -> None:
    made = scene(CAUSES["wavelength and cell"][0])
    rows = [replace(r, restraint=1e-4) if r.name == "beam.wavelength" else r for r in made.parameters.parameters_]
    tied = replace(made, parameters=ParameterSet(rows, tiny.start_tensors(tiny.experiments(1))))
    known = known_of(tied.objective(), tied.start())
    assert not known.undetermined
    assert float(known.model[known.names.index("beam.wavelength")]) == pytest.approx(1e-4, rel=1e-3)


def test_the_information_leaves_the_spans_of_headers_out() -> None:
    made = scene()
    objective, parameters = made.objective(), made.start()
    narrow = [replace(row, span=row.span / 50) for row in parameters.parameters_]
    twin = ParameterSet(narrow, tiny.start_tensors(tiny.experiments(1)))
    one, two = (
        times(information(p, objective.linearize(p)), torch.eye(len(p.free)).double()) for p in (parameters, twin)
    )
    assert one.allclose(two, rtol=1e-6, atol=1e-9 * float(one.abs().max()))


def test_correlations_are_the_covariance_on_a_unit_diagonal() -> None:
    made = scene()
    known = known_of(made.objective(), made.start())
    back = torch.argsort(known.order)
    covariance = known.covariance.matrix()[back][:, back]
    root = covariance.diagonal().sqrt()
    assert known.correlation().allclose(covariance / root[:, None] / root, rtol=1e-12)
    assert known.correlation().diagonal().allclose(torch.ones(len(root)).double(), rtol=1e-12)
    assert known.model.allclose(root, rtol=1e-12)
    assert known.names == tuple(made.parameters.parameters_[i].name for i in made.parameters.free)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("free_scales", "draws", "covered", "wide"),
    [
        (False, 1000, (0.63, 0.73), 0.10),
        # 1000 of these cover 64 … 69 %, but a few crystal sizes far out make widths of 3.1, 2.4, 1.4 (others ≤ 1.10): a
        # spot's own scale leaves the size to its shape alone, in which the loss of few photons is no parabola
        (True, 300, (0.60, 0.76), 0.15),
    ],
)
def test_error_bars_cover_the_truth_as_often_as_they_say(
    *, free_scales: bool, draws: int, covered: tuple[float, float], wide: float
) -> None:
    """Fits from a displaced start to convergence: how many are within one sigma, and how wide z-scores are."""
    made = scene() if free_scales else scene((*FREE, "*.scale"))
    parameters, z, robust = made.parameters, [], []
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        objective = made.objective(rng, free_scales=free_scales)
        away = parameters.start.clone()
        here = torch.tensor(parameters.free)
        away[here] += (
            0.05 * parameters.column("span", parameters.free) * torch.as_tensor(rng.standard_normal(len(here)))
        )
        made.start(away)
        off = fit(objective, parameters) - parameters.start[here]
        known = known_of(objective, parameters)
        z.append(off / known.model)
        robust.append(off / known.sandwich)
    for kind, scores in (("Fisher", torch.stack(z)), ("sandwich", torch.stack(robust))):
        cover = scores.abs().lt(1).double().mean(0)
        width = scores.std(0)
        names = [parameters.parameters_[index].name for index in parameters.free]
        for row in zip(names, cover.tolist(), width.tolist(), strict=True):
            print("{:32s} {:.3f} within one sigma, z-scores of width {:.3f}".format(*row), kind)
        if kind == "Fisher":
            assert float(cover.min()) >= covered[0]
            assert float(cover.max()) <= covered[1]
            assert width.sub(1).abs().max() < wide
        else:  # from 20 reflections, a few of which carry most of what is known
            assert float(cover.min()) >= 0.55
            assert float(cover.max()) <= 0.85
