"""Where reflections fall: against the rendered image, published predictions, and the geometry's own identities."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nbtorch.config import (
    BeamConfig,
    CrystalConfig,
    DetectorConfig,
    Exposure,
    GoniometerConfig,
    Mat3,
    MosaicConfig,
    PanelConfig,
    RenderSettings,
)
from nbtorch.errors import ConfigError
from nbtorch.functional import prediction
from nbtorch.functional.detector import sample_position
from nbtorch.functional.prediction import SensorStack, Spindle
from nbtorch.functional.rotation import rotation_matrix, unit
from nbtorch.io.expt import read_expt
from nbtorch.models import Experiment, StructureFactors
from nbtorch.render import Renderer, shoeboxes
from nbtorch.render.excited import excited_reflections
from nbtorch.render.predict import frame_number, mean_wave, predict
from tests.helpers.data import shared

TRICLINIC = (60.0, 75.0, 90.0, 75.0, 85.0, 102.0)
PIXELS, PIXEL, DISTANCE = 2000, 0.05, 150.0


def turned(x: float, y: float, z: float) -> Mat3:
    """The rotation about a vector (degrees)."""
    rows = rotation_matrix(torch.deg2rad(torch.tensor([x, y, z], dtype=torch.float64))).tolist()
    return tuple(tuple(row) for row in rows)  # type: ignore[return-value]


def tilted_panel(tilt: tuple[float, float, float] = (0.0, 0.0, 0.0), **sensor: float) -> PanelConfig:
    """A panel around the beam along −z, turned about the sample."""
    turn = np.array(turned(*tilt))
    half = PIXELS * PIXEL / 2
    fast, slow, origin = (turn @ np.array(v) for v in ([1, 0, 0], [0, -1, 0], [-half, half, -DISTANCE]))
    return PanelConfig(tuple(fast), tuple(slow), tuple(origin), (PIXEL, PIXEL), (PIXELS, PIXELS), **sensor)


CRYSTAL = CrystalConfig(
    (70.0, 80.0, 90.0, 90.0, 90.0, 90.0), turned(50, -30, 110), n_cells=(20.0, 18.0, 16.0), shape="gauss_hkl"
)
BEAM = BeamConfig(1.0, direction=(0.0, 0.0, -1.0), polarization_axis=(1.0, 0.0, 0.0))
SPIN = GoniometerConfig((0.6, -0.8, 0.1), turned(17, -12, 40), turned(6, 28, -17))
SPECTRUM = ((-0.004, 0.3), (0.0, 1.0), (0.004, 0.6))


def experiment(
    crystal: CrystalConfig = CRYSTAL,
    beam: BeamConfig = BEAM,
    exposure: Exposure = Exposure(10.0),  # noqa: B008  frozen
    panel: PanelConfig | None = None,
    layers: int = 1,
) -> Experiment:
    """The scene that the tests vary."""
    return Experiment.from_config(
        crystal, beam, DetectorConfig((panel or tilted_panel(),), layers=layers), exposure=exposure
    )


SCENES = {
    "plain": lambda: experiment(),
    "tilted": lambda: experiment(panel=tilted_panel((10, -15, 5))),
    "sensor_of_five_layers": lambda: experiment(
        panel=tilted_panel((25, 0, 0), thickness=0.45, attenuation_length=0.4), layers=5
    ),
    "triclinic": lambda: experiment(replace(CRYSTAL, cell=TRICLINIC)),
    "needle": lambda: experiment(replace(CRYSTAL, n_cells=(10.0, 32.0, 16.0))),
    "mosaic": lambda: experiment(replace(CRYSTAL, mosaic=MosaicConfig(0.1, 24))),
    "spectrum": lambda: experiment(beam=replace(BEAM, spectrum=SPECTRUM)),
    "divergent": lambda: experiment(beam=replace(BEAM, divergence=((0.8, 0.0, 1.0), (-0.8, 0.3, 0.5)))),
    "wide_exposure": lambda: experiment(exposure=Exposure(10.0, 1.0, 30)),
    "goniometer": lambda: experiment(replace(CRYSTAL, goniometer=SPIN), exposure=Exposure(-20.0, 0.5, 12)),
    "gauss": lambda: experiment(replace(CRYSTAL, shape="gauss", n_cells=(9.0, 12.0, 11.0))),
    "all_together": lambda: experiment(
        replace(CRYSTAL, cell=TRICLINIC, mosaic=MosaicConfig(0.05, 6), goniometer=SPIN),
        replace(BEAM, spectrum=SPECTRUM),
        Exposure(10.0, 0.5, 8),
        tilted_panel((5, 8, 3), thickness=0.3, attenuation_length=0.5),
        layers=3,
    ),
}


def rendered_centroid(scene: Experiment, hkl: Tensor, near: tuple[float, float], half: int) -> tuple[float, float]:
    """Centroid (fast, slow) of one reflection alone, in a box around ``near``."""
    alone = StructureFactors(hkl[None].numpy().astype(int), np.ones(1))
    lone = Experiment(scene.crystal, scene.beam, scene.detector, alone, scene.exposure)
    pixels, _ = shoeboxes(scene.detector.config, np.array([[0, *near]]), half)
    with torch.no_grad():
        photons = Renderer(lone, pixels, RenderSettings(oversample=3))()
    share = photons / photons.sum()
    return float(((pixels.fast + 0.5) * share).sum()), float(((pixels.slow + 0.5) * share).sum())


def bright_reflections(scene: Experiment, count: int) -> tuple[Tensor, prediction.Tensor, Tensor]:
    """hkl, fast, slow of some reflections that are well excited and away from the edge."""
    found = excited_reflections(scene, dmin=2.0, margin=0.3)
    hkl, panel = torch.as_tensor(found.hkl), torch.as_tensor(found.panel)
    with torch.no_grad():
        spots = predict(scene, hkl, panel)
    inside = torch.stack([spots.fast, spots.slow]).sub(PIXELS / 2).abs().amax(0) < PIXELS / 2 - 40
    bright = torch.nonzero(spots.valid & inside & (spots.weight > 0.05 * spots.weight.max()))[:, 0]
    chosen = bright[torch.linspace(0, len(bright) - 1, count).long()]
    return hkl[chosen], spots.fast[chosen], spots.slow[chosen]


@pytest.mark.parametrize("name", SCENES)
def test_predicted_centroid_is_the_rendered_one(name: str) -> None:
    scene = SCENES[name]()
    hkl, fast, slow = bright_reflections(scene, 5)
    for index, at in zip(hkl, zip(fast.tolist(), slow.tolist(), strict=True), strict=True):
        centroid = rendered_centroid(scene, index, at, half=22)
        # 0.02 px is promised; worst seen 0.002, a needle in one pixel's width: the pixels sample it coarsely
        np.testing.assert_allclose(at, centroid, atol=0.02)


@pytest.mark.parametrize("change", ["mosaic", "exposure", "spectrum"])
def test_what_is_averaged_moves_the_centroid(change: str) -> None:
    scene = SCENES["all_together"]()
    hkl, fast, slow = bright_reflections(scene, 5)
    one = {
        "mosaic": lambda: scene.crystal.mosaic_spread.mul_(0.2),
        "exposure": lambda: setattr(scene, "exposure", Exposure(10.0, 0.1, 8)),
        "spectrum": lambda: scene.beam.weight.mul_(torch.tensor([5.0, 1.0, 0.1], dtype=torch.float64)),
    }
    with torch.no_grad():
        one[change]()
        moved = predict(scene, hkl, torch.zeros(5, dtype=torch.long))
    assert (torch.stack([moved.fast - fast, moved.slow - slow]).abs() > 0.02).any()


def test_blocks_of_rays_never_change_a_centroid(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = SCENES["all_together"]()
    hkl, fast, slow = bright_reflections(scene, 9)
    monkeypatch.setattr("nbtorch.render.predict._BLOCK", 8 * 6 * 3 * 4)
    with torch.no_grad():
        again = predict(scene, hkl, torch.zeros(9, dtype=torch.long))
    # 1e-13: products of matrices of other sizes are rounded otherwise
    torch.testing.assert_close(again.fast, fast, rtol=1e-13, atol=0)
    torch.testing.assert_close(again.slow, slow, rtol=1e-13, atol=0)


def test_a_far_reflection_keeps_a_finite_centroid_and_no_weight() -> None:
    scene = experiment()
    spot = predict(scene, torch.tensor([[9, 3, 30]]), torch.tensor([0]))
    assert torch.isfinite(spot.fast).all()
    assert float(spot.weight.detach()) == 0
    (gradient,) = torch.autograd.grad(spot.fast.sum() + spot.weight.sum(), scene.crystal.cell)
    assert torch.isfinite(gradient).all()


def a_spindle() -> Spindle:
    axis = unit(torch.tensor(SPIN.axis, dtype=torch.float64))
    fixed, setting = (torch.tensor(m, dtype=torch.float64) for m in (SPIN.fixed_rotation, SPIN.setting_rotation))
    return Spindle(axis, fixed, setting)


def test_both_crossings_lie_on_the_ewald_sphere() -> None:
    wave = torch.tensor([0.1, -0.2, -1.0], dtype=torch.float64)
    reciprocal = torch.randn(400, 3, dtype=torch.float64) * 0.4
    spindle = a_spindle()
    angles, valid = prediction.crossing_angles(reciprocal, wave, spindle)
    assert 200 < int(valid.sum()) < 400
    for angle in angles.unbind(1):
        length = (wave + prediction.turn(reciprocal, spindle, angle)).norm(dim=-1)
        # 1e-12: a grazing crossing loses half the digits of the angle but none of the length
        torch.testing.assert_close(length[valid], wave.norm().expand(int(valid.sum())), rtol=1e-12, atol=0)


def test_a_reflection_that_never_crosses_is_invalid_and_spoils_no_gradient() -> None:
    scene = experiment(replace(CRYSTAL, goniometer=GoniometerConfig((1.0, 0.0, 0.0), CRYSTAL.orientation)))
    along_axis = torch.tensor([[6, 5, 3], [20, 0, 0], [0, 0, 0]])
    scene.crystal.orientation.copy_(scene.crystal.orientation.T.clone())
    spots = predict(scene, along_axis, torch.zeros(3, dtype=torch.long), torch.zeros(3))
    assert spots.valid.tolist() == [True, False, False]
    gradient = torch.autograd.grad(spots.fast.sum() + spots.phi.sum(), scene.crystal.cell)[0]
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def test_the_nearest_crossing_is_on_the_turn_of_the_observed_angle() -> None:
    angles = torch.tensor([[0.1, 2.0]] * 4, dtype=torch.float64)
    observed = torch.tensor([0.0, 1.5, 2 * math.pi + 0.2, -2 * math.pi + 1.9], dtype=torch.float64)
    expected = torch.tensor([0.1, 2.0, 2 * math.pi + 0.1, 2.0 - 2 * math.pi], dtype=torch.float64)
    torch.testing.assert_close(prediction.nearest_angle(angles, observed), expected, rtol=0, atol=1e-15)


def test_the_crossing_is_the_centroid_of_a_fine_exposure_around_it() -> None:
    scene = experiment(replace(CRYSTAL, goniometer=SPIN, n_cells=(300.0, 300.0, 300.0)))
    found = excited_reflections(scene, Exposure(10.0, 1.0), dmin=2.5, margin=0.0)
    hkl, panel, phi = (torch.as_tensor(x) for x in (found.hkl, found.panel, found.phi))
    with torch.no_grad():
        crossing = predict(scene, hkl, panel, phi)
        spread = [predict(scene, hkl[i : i + 1], panel[i : i + 1], exposure=around(crossing.phi[i])) for i in range(20)]
    for i, spot in enumerate(spread):
        # 1e-3 px: the exposure is ±0.05°, in which a spot of 21000 Å is excited for 0.01°
        assert abs(float(spot.fast - crossing.fast[i])) < 1e-3
        assert abs(float(spot.slow - crossing.slow[i])) < 1e-3


def around(phi: Tensor) -> Exposure:
    return Exposure(float(phi) - 0.05, 0.1, 201)


def _with_parameters(scene: Experiment, names: list[str], observed: Tensor | None) -> tuple[object, tuple[Tensor, ...]]:
    """A function of the named parameters that predicts two reflections, and their values."""
    hkl = torch.as_tensor(excited_reflections(scene, dmin=3.0, margin=0.0 if observed is not None else 0.2).hkl[:2])
    named = dict(scene.named_parameters())

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        spots = torch.func.functional_call(_Predicting(scene, hkl, observed), dict(zip(keys, values, strict=True)))
        return tuple(x for x in spots if x is not None)

    keys = [f"scene.{name}" for name in names]
    return function, tuple(named[name].detach().clone().requires_grad_() for name in names)


class _Predicting(torch.nn.Module):
    def __init__(self, scene: Experiment, hkl: Tensor, observed: Tensor | None) -> None:
        super().__init__()
        self.scene, self.hkl, self.observed = scene, hkl, observed

    def forward(self) -> tuple[Tensor | None, ...]:
        spots = predict(self.scene, self.hkl, torch.zeros(2, dtype=torch.long), self.observed)
        return spots.fast, spots.slow, spots.phi, None if self.observed is not None else spots.weight


GEOMETRY = ["crystal.cell", "crystal.rotation", "crystal.misset", "crystal.spindle_axis"]
GEOMETRY += ["beam.direction", "beam.wavelength"]
GEOMETRY += [f"detector.{name}" for name in ("shift", "rotation", "origin", "thickness")]
SPREADS = ["crystal.mosaic_spread", "crystal.n_cells", "beam.spectrum", "beam.divergence", "beam.weight"]


@pytest.mark.parametrize("kind", ["crossing", "exposure"])
def test_gradients_of_a_prediction(kind: str) -> None:
    scene = experiment(
        replace(CRYSTAL, mosaic=MosaicConfig(0.05, 2), goniometer=SPIN),
        replace(BEAM, spectrum=SPECTRUM),
        Exposure(10.0, 0.4, 3),
        tilted_panel((5, 8, 3), thickness=0.3, attenuation_length=0.5),
        layers=3,
    )
    observed = torch.full((2,), 10.2, dtype=torch.float64) if kind == "crossing" else None
    names = GEOMETRY if observed is not None else GEOMETRY + SPREADS
    function, values = _with_parameters(scene, names, observed)
    assert torch.autograd.gradcheck(function, values)
    moves = torch.autograd.grad(function(*values)[0].sum(), values)
    assert all(gradient.abs().max() > 0 for gradient in moves)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, when jvp is first used
def test_forward_and_batched_derivatives_agree_with_backward() -> None:
    scene = SCENES["all_together"]()
    function, values = _with_parameters(scene, ["crystal.cell"], None)
    backward = torch.autograd.functional.jacobian(lambda cell: function(cell)[0], values[0])
    forward = torch.func.jacfwd(lambda cell: function(cell)[0])(values[0].detach())  # jvp under vmap
    torch.testing.assert_close(forward, backward, rtol=1e-10, atol=1e-10)


def test_a_ray_meets_the_point_it_was_drawn_to() -> None:
    frame = torch.tensor([[[0.8, 0.6, 0], [0.1, 1.0, 0.05], [0, 0, 1], [-40, 30, -120]]], dtype=torch.float64)
    frame[:, :2] = unit(frame[:, :2])
    frame[:, 2] = -unit(torch.linalg.cross(frame[:, 0], frame[:, 1]))
    size = torch.tensor([[0.1, 0.172]], dtype=torch.float64)
    at = torch.tensor([12.25]), torch.tensor([-3.5])
    none = SensorStack(*(torch.zeros(1, dtype=torch.float64) for _ in range(3)), 1)
    point = sample_position(frame, size, at[0].double(), at[1].double(), torch.zeros(1, dtype=torch.float64))
    fast, slow, valid = prediction.ray_to_panel(unit(point), frame, size, none)
    assert bool(valid)
    torch.testing.assert_close(torch.stack([fast, slow]), torch.stack(at).double(), rtol=1e-12, atol=0)
    _, _, behind = prediction.ray_to_panel(-unit(point), frame, size, none)
    assert not bool(behind)


def sensor(count: int, layers: int) -> SensorStack:
    thickness = torch.full((count,), 0.32, dtype=torch.float64)
    return SensorStack(thickness, torch.full_like(thickness, 1 / 0.7066), thickness / layers, layers)


def test_parallax_depths_are_those_of_the_physics_page() -> None:
    cosine = torch.cos(torch.deg2rad(torch.tensor([30.0], dtype=torch.float64)))
    # physics.md §2.2: 0.32 mm of silicon at 18 keV and 30°; the absorption length there is 0.7066 mm (Si, 0.6889 Å)
    assert float(prediction.sensor_path("mean", cosine, sensor(1, 1))) == pytest.approx(0.169, abs=5e-4)
    assert float(prediction.sensor_path("dxtbx", cosine, sensor(1, 1))) == pytest.approx(0.069, abs=5e-4)
    assert float(prediction.sensor_path("none", cosine, sensor(1, 1))) == 0


def test_many_layers_are_detected_at_the_mean_depth() -> None:
    cosine = torch.cos(torch.linspace(0, 1.2, 7, dtype=torch.float64))
    many = prediction.sensor_path("layers", cosine, sensor(7, 2000))
    mean = prediction.sensor_path("mean", cosine, sensor(7, 2000))
    # a layer is detected at its front: half a layer, 1/4000 of the thickness, too early
    torch.testing.assert_close(many, mean, rtol=0, atol=0.32 / 3900 / math.cos(1.2))


def test_an_unknown_parallax_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="none, mean, layers, dxtbx"):
        predict(experiment(), torch.tensor([[1, 2, 3]]), torch.tensor([0]), parallax="full")


def test_a_curved_detector_is_refused() -> None:
    curved = Experiment.from_config(CRYSTAL, BEAM, DetectorConfig((tilted_panel(),), curved=True))
    with pytest.raises(ConfigError, match="curved"):
        predict(curved, torch.tensor([[1, 2, 3]]), torch.tensor([0]))


def real_spots(path: Path) -> tuple[dict[str, np.ndarray], Tensor, Tensor]:
    table = np.genfromtxt(path, delimiter=",", names=True)
    hkl = torch.as_tensor(np.stack([table[name] for name in "hkl"], 1))
    columns = {name: table[name] for name in table.dtype.names}
    panel = torch.as_tensor(columns.get("panel", np.zeros(len(table))).astype(int))
    return columns, hkl, panel


def real_experiment(path: Path, **changes: object) -> tuple[Experiment, object]:
    entry = read_expt(path)[0]
    crystal = replace(entry.crystal, **changes)
    return Experiment.from_config(crystal, entry.beam, entry.detector), entry.scan


@pytest.mark.parametrize("sweep", ["sweep2", "sweep4"])
def test_published_predictions_of_a_scan_are_reproduced(sweep: str) -> None:
    folder = shared("real", "l_cysteine", sweep)
    scene, scan = real_experiment(folder / "reference.expt")
    columns, hkl, panel = real_spots(folder / "spots.csv")
    observed = torch.as_tensor(scan.phi_start + columns["frame"] * scan.oscillation)
    with torch.no_grad():
        spots = predict(scene, hkl, panel, observed, parallax="dxtbx")
    # 6e-5: the columns are written with four decimals
    np.testing.assert_allclose(spots.fast, columns["published_fast_px"], rtol=0, atol=6e-5)
    np.testing.assert_allclose(spots.slow, columns["published_slow_px"], rtol=0, atol=6e-5)
    np.testing.assert_allclose(frame_number(spots.phi, scan), columns["published_frame"], rtol=0, atol=6e-5)


@pytest.mark.parametrize(
    ("expt", "csv", "rms"),
    [
        # two decimals: the figures stated with the data (in16c), and for the stills those of the nearest point of the
        # sphere, a little under the stated ones, which turn the lattice onto it
        ("in16c/indexed.expt", "in16c/spots.csv", (0.52, 0.46)),
        ("thermolysin_cspad/401.expt", "thermolysin_cspad/401_spots.csv", (0.48, 0.50)),
        ("thermolysin_cspad/701.expt", "thermolysin_cspad/701_spots.csv", (0.23, 0.30)),
    ],
)
def test_stills_are_predicted_as_well_as_published(expt: str, csv: str, rms: tuple[float, float]) -> None:
    # equally thick in all directions, whatever the cell's angles: only the distance to the sphere counts
    scene, scan = real_experiment(shared("real", expt), shape="gauss", n_cells=(10.0, 10.0, 10.0))
    exposure = Exposure(scan.phi_start, scan.oscillation) if scan else Exposure()
    columns, hkl, panel = real_spots(shared("real", csv))
    with torch.no_grad():
        spots = predict(scene, hkl, panel, exposure=exposure, parallax="dxtbx")
    found = [
        np.sqrt(np.mean((x.numpy() - columns[y]) ** 2)) for x, y in ((spots.fast, "fast_px"), (spots.slow, "slow_px"))
    ]
    np.testing.assert_allclose(found, rms, atol=0.005)


def test_the_mean_wave_weighs_the_sources() -> None:
    scene = experiment(beam=replace(BEAM, spectrum=((-0.1, 1.0), (0.2, 3.0))))
    expected = torch.tensor([0.0, 0.0, -1 / 1.125], dtype=torch.float64)
    torch.testing.assert_close(mean_wave(scene).detach(), expected, rtol=1e-14, atol=1e-14)
