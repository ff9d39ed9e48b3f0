"""Indices of spots from starts that are off: simulated scenes with known truth, and the real frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbtorch.config import (
    BeamConfig,
    CrystalConfig,
    DetectorConfig,
    Exposure,
    GoniometerConfig,
    PanelConfig,
    ScanConfig,
)
from nbtorch.functional.rotation import rotation_matrix
from nbtorch.models import Experiment, StructureFactors
from nbtorch.render.excited import excited_reflections
from nbtorch.render.predict import predict
from refine.indexing.index_spots import AMBIGUOUS, CLAIMED_TWICE, FAR, IndexingSettings, index_spots
from refine.indexing.offset_search import SearchSettings
from refine.spots.find_spots import Spots
from tests.helpers.real import entry, exposure_of, found_spots, listed_spots, moved_start, nearest_found

MATCH_ONLY = IndexingSettings(search=None)
PIXEL, DISTANCE = 0.1, 140.0


def four_panels() -> DetectorConfig:
    """Two by two panels of 450 × 400 pixels with gaps, a little tilted, the beam along −z."""
    panels = []
    for i, (x, y) in enumerate([(-46, 1), (1, 1), (-46, -42), (1, -42)]):
        tilt = 0.01 * i
        fast, slow = (np.cos(tilt), np.sin(tilt), 0.0), (np.sin(tilt), -np.cos(tilt), 0.02)
        panels.append(PanelConfig(fast, slow, (x, y + 40, -DISTANCE), (PIXEL, PIXEL), (450, 400), f"p{i}"))
    return DetectorConfig(tuple(panels))


CRYSTAL = CrystalConfig(
    (78.0, 92.0, 121.0, 90.0, 101.0, 90.0), n_cells=(20.0, 20.0, 20.0), goniometer=GoniometerConfig((1.0, 0.0, 0.0))
)
BEAM = BeamConfig(1.1, direction=(0.0, 0.0, -1.0), polarization_axis=(1.0, 0.0, 0.0))
SCAN = ScanConfig(20.0, 0.2, 20)


def experiment(crystal: CrystalConfig = CRYSTAL, detector: DetectorConfig | None = None) -> Experiment:
    made = Experiment.from_config(crystal, BEAM, detector or four_panels())
    with torch.no_grad():
        made.crystal.orientation.copy_(rotation_matrix(torch.tensor([0.4, 1.1, -0.7], dtype=torch.float64)))
    return made


def spots_at(panel: np.ndarray, fast: np.ndarray, slow: np.ndarray, frame: np.ndarray) -> Spots:
    """Spots with these centroids, brightest first, and nothing else of interest."""
    one = np.ones(len(panel))
    whole = one.astype(int)
    moments = dict.fromkeys(("width_fast", "width_slow", "width_frame", "peak", "background", "significance"), one)
    counts = np.linspace(1000, 100, len(panel))
    first = np.floor(frame).astype(int)
    return Spots(panel, fast, slow, frame, counts, n_pixels=whole, first_frame=first, last_frame=first, **moments)


def simulated(
    truth: Experiment, scan: ScanConfig | None, rng: np.random.Generator, noise: float = 0.3, junk: int = 40
) -> tuple[Spots, np.ndarray]:
    """Spots of ``truth`` as a finder would list them, with false ones among them; hkl [n, 3], 0 for a false one."""
    exposure = Exposure(SCAN.phi_start, SCAN.n_frames * SCAN.oscillation) if scan else Exposure(20.0)
    lit = excited_reflections(truth, exposure, dmin=1.9, margin=0.0 if scan else 0.12)
    chosen = rng.permutation(len(lit))[:220]
    hkl, panel = lit.hkl[chosen], lit.panel[chosen]
    phi = torch.as_tensor(lit.phi[chosen]) if scan else None
    with torch.no_grad():
        at = predict(truth, torch.as_tensor(hkl), torch.as_tensor(panel), phi, exposure, "none")
    frame = (at.phi.numpy() - SCAN.phi_start) / SCAN.oscillation if at.phi is not None else np.full(len(hkl), 0.5)
    wrong = rng.uniform((0, 0, 0), (450, 400, 20 if scan else 1), (junk, 3))
    spots = spots_at(
        np.concatenate([panel, rng.integers(0, 4, junk)]),
        np.concatenate([at.fast.numpy(), wrong[:, 0]]) + rng.normal(0, noise, len(hkl) + junk),
        np.concatenate([at.slow.numpy(), wrong[:, 1]]) + rng.normal(0, noise, len(hkl) + junk),
        np.concatenate([frame + (rng.normal(0, 0.2, len(hkl)) if scan else 0), wrong[:, 2]]),
    )
    order = rng.permutation(len(spots))
    return spots[order], np.concatenate([hkl, np.zeros((junk, 3), dtype=int)])[order]


def moved(crystal: CrystalConfig = CRYSTAL, cell: float = 1.0, **values: tuple[float, float, float]) -> Experiment:
    """The experiment with a start error."""
    lengths = [edge * cell for edge in crystal.cell[:3]]
    start = experiment(replace(crystal, cell=(*lengths, *crystal.cell[3:])))
    with torch.no_grad():
        start.detector.shift.copy_(torch.tensor([values.get("shift", (0, 0, 0))]))
        start.detector.rotation.copy_(torch.tensor([values.get("tilt", (0, 0, 0))]))
        start.crystal.rotation.copy_(torch.tensor(values.get("rotation", (0, 0, 0))))
    return start


STARTS = {
    "exact": {},
    "20_pixels_off": {"shift": (1.4, -1.4, 0.0)},
    "half_a_degree_off": {"rotation": (0.3, -0.3, 0.3)},
    "header_like": {"shift": (-1.0, 0.8, 1.2), "rotation": (0.25, 0.3, -0.2), "cell": 1.005, "tilt": (0.1, -0.1, 0.1)},
    "cell_one_percent_off": {"cell": 0.99, "shift": (0.5, 0.5, 0.0)},
}


@pytest.mark.parametrize("kind", ["still", "scan"])
@pytest.mark.parametrize("name", STARTS)
def test_indices_are_right_from_a_start_that_is_off(kind: str, name: str, rng: np.random.Generator) -> None:
    scan = SCAN if kind == "scan" else None
    spots, truth = simulated(experiment(), scan, rng)
    found = index_spots(moved(**STARTS[name]), spots, scan, Exposure(20.0))
    real = truth.any(axis=1)
    wrong = (found.hkl != truth[found.spot]).any(axis=1)
    # Overlapping reflections of this dense pattern are left out, not guessed: worst seen 0.85 and 0.01.
    assert (~wrong).sum() >= 0.8 * real.sum()
    assert (wrong & real[found.spot]).sum() <= 0.015 * real.sum()
    assert (found.panel == spots.panel[found.spot]).all()


def with_amplitudes(made: Experiment, spots: Spots, truth: np.ndarray, rng: np.random.Generator) -> tuple:
    """The experiment with random amplitudes, and the spots with counts that follow them loosely."""
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in (36, 42, 56)], indexing="ij"), -1).reshape(-1, 3)
    amplitude = np.sqrt(rng.exponential(100.0, len(grid)))
    light = dict(zip(map(tuple, grid), amplitude**2, strict=True))
    counts = np.array([light[tuple(hkl)] for hkl in truth]) * rng.uniform(0.1, 1, len(spots))
    order = np.argsort(-counts)
    made.structure_factors = StructureFactors(grid, amplitude)
    return made, replace(spots, counts=counts)[order], truth[order]


def test_amplitudes_tell_the_indices_from_those_off_by_one(rng: np.random.Generator) -> None:
    # Everything is off by about λ/c = 0.5°, such that indices off by one need the smaller change.
    start = moved(shift=(-1.0, 0.8, 1.2), rotation=(0.25, 0.3, -0.2), tilt=(0.2, -0.3, 0.1), cell=1.005)
    spots, truth = simulated(experiment(), None, rng)
    without = index_spots(start, spots, None, Exposure(20.0))
    shifted = without.hkl - truth[without.spot]
    assert (np.abs(shifted).sum(axis=1) == 1).mean() > 0.8
    start, spots, truth = with_amplitudes(start, spots, truth, rng)
    informed = index_spots(start, spots, None, Exposure(20.0))
    assert (informed.hkl == truth[informed.spot]).all(axis=1).mean() > 0.8


def test_every_spot_has_an_index_or_a_reason(rng: np.random.Generator) -> None:
    spots, _ = simulated(experiment(), None, rng)
    found = index_spots(moved(**STARTS["header_like"]), spots, None, Exposure(20.0))
    assert len(found.reason) == len(spots)
    assert (found.reason[found.spot] == "").all()
    assert len(found.rejected) + len(found) == len(spots)
    assert {reason for _, reason in found.rejected} <= {FAR, AMBIGUOUS, CLAIMED_TWICE}


def test_a_good_start_needs_no_search(rng: np.random.Generator) -> None:
    spots, truth = simulated(experiment(), None, rng)
    found = index_spots(experiment(), spots, None, Exposure(20.0), MATCH_ONLY)
    assert (found.hkl == truth[found.spot]).all(axis=1).mean() > 0.95
    assert (found.offset.shift == 0).all()
    assert found.offset.agreement == 0


def test_without_a_search_a_start_that_is_off_indexes_little(rng: np.random.Generator) -> None:
    spots, truth = simulated(experiment(), None, rng)
    found = index_spots(moved(shift=(1.4, -1.4, 0.0)), spots, None, Exposure(20.0), MATCH_ONLY)
    assert (found.hkl == truth[found.spot]).all(axis=1).sum() < 10


@pytest.mark.parametrize("kind", ["still", "scan"])
def test_the_offset_of_the_search_brings_the_start_near(kind: str, rng: np.random.Generator) -> None:
    scan = SCAN if kind == "scan" else None
    spots, _ = simulated(experiment(), scan, rng)
    shift, rotation = np.array([-1.0, 0.8, 0.7]), np.array([0.25, 0.3, -0.2])
    start = moved(shift=tuple(shift), rotation=tuple(rotation))
    found = index_spots(start, spots, scan, Exposure(20.0)).offset
    back = found.rotation
    if scan is not None:  # seen after the spindle has turned, in the middle of the scan
        middle = Exposure(SCAN.phi_start + SCAN.n_frames * SCAN.oscillation / 2)
        back = start.crystal.spindle_rotations(middle)[0].detach().numpy().T @ back
    else:
        back = start.crystal.spindle_rotations(Exposure(20.0))[0].detach().numpy().T @ back
    # a pixel; what a pixel at the edge turns, and does to the distance (its lever is the slope of the rays, 0.3)
    np.testing.assert_allclose(found.shift[:2], -shift[:2], atol=0.1)
    np.testing.assert_allclose(found.shift[2], -shift[2], atol=0.35)
    np.testing.assert_allclose(back, -rotation, atol=0.1)
    assert found.agreement > 3 * found.chance + 30


def lone(experiment_: Experiment, hkl: list[int], moves: list[tuple[float, float]]) -> Spots:
    """Spots near one reflection of a still."""
    with torch.no_grad():
        at = predict(experiment_, torch.tensor([hkl]), torch.tensor([0]), exposure=Exposure(20.0))
    fast, slow = (np.array([float(x) + move[i] for move in moves]) for i, x in enumerate((at.fast, at.slow)))
    return spots_at(np.zeros(len(moves), dtype=int), fast, slow, np.full(len(moves), 0.5))


def reflection_on_panel_0(experiment_: Experiment) -> list[int]:
    lit = excited_reflections(experiment_, Exposure(20.0), dmin=2.5, margin=0.01)
    inside = (lit.panel == 0) & (abs(lit.fast - 225) < 180) & (abs(lit.slow - 200) < 160)
    return [int(x) for x in lit.hkl[np.nonzero(inside)[0][0]]]


def test_two_spots_that_claim_one_reflection_are_both_left_out() -> None:
    made = experiment()
    hkl = reflection_on_panel_0(made)
    alone = index_spots(made, lone(made, hkl, [(0.3, 0.0)]), None, Exposure(20.0), MATCH_ONLY)
    assert alone.hkl.tolist() == [hkl]
    both = index_spots(made, lone(made, hkl, [(0.3, 0.0), (-0.4, 0.5)]), None, Exposure(20.0), MATCH_ONLY)
    assert len(both) == 0
    assert both.reason.tolist() == [CLAIMED_TWICE, CLAIMED_TWICE]


def test_a_spot_between_two_reflections_is_left_out() -> None:
    made = experiment(replace(CRYSTAL, cell=(78.0, 92.0, 900.0, 90.0, 90.0, 90.0)))
    hkl = reflection_on_panel_0(made)
    found = index_spots(made, lone(made, hkl, [(0.2, 0.1)]), None, Exposure(20.0), MATCH_ONLY)
    assert found.reason.tolist() == [AMBIGUOUS]
    wide = replace(MATCH_ONLY, contrast=0.0)
    assert len(index_spots(made, lone(made, hkl, [(0.2, 0.1)]), None, Exposure(20.0), wide)) == 1


def test_a_spot_far_from_every_prediction_is_left_out() -> None:
    made = experiment()
    far = index_spots(made, lone(made, reflection_on_panel_0(made), [(3.2, 0.0)]), None, Exposure(20.0), MATCH_ONLY)
    assert far.reason.tolist() == [FAR]
    assert len(index_spots(made, lone(made, [1, 1, 1], []), None, Exposure(20.0))) == 0


def test_absent_reflections_are_never_assigned() -> None:
    made = experiment(replace(CRYSTAL, space_group="C 1 2 1"))
    lit = excited_reflections(made, Exposure(20.0), dmin=2.5, margin=0.02)
    absent = lit.hkl[(lit.hkl[:, :2].sum(axis=1) % 2 == 1) & (lit.panel == 0)][0].tolist()
    found = index_spots(made, lone(made, absent, [(0.1, 0.1)]), None, Exposure(20.0), MATCH_ONLY)
    assert absent not in found.hkl.tolist()
    primitive = index_spots(experiment(), lone(made, absent, [(0.1, 0.1)]), None, Exposure(20.0), MATCH_ONLY)
    assert absent in primitive.hkl.tolist()


LIMITS = {
    "pixels": IndexingSettings(SearchSettings(pixels=8.0)),
    "degrees": IndexingSettings(SearchSettings(degrees=0.0)),
    "crystal_known": IndexingSettings(SearchSettings(crystal_known=True)),
    "brightest": IndexingSettings(SearchSettings(brightest=2)),
    "tolerance": IndexingSettings(tolerance=0.4),
    "miss": IndexingSettings(miss=0.02),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_tighter_setting_indexes_fewer(name: str, rng: np.random.Generator) -> None:
    spots, truth = simulated(experiment(), None, rng)
    start = moved(shift=(1.4, -1.4, 0.0), rotation=(0.35, 0.35, 0.2))
    right = [
        (found.hkl == truth[found.spot]).all(axis=1).sum()
        for found in (index_spots(start, spots, None, Exposure(20.0), s) for s in (IndexingSettings(), LIMITS[name]))
    ]
    assert right[1] < right[0]


def test_where_the_crystal_is_known_a_detector_that_is_off_is_found(rng: np.random.Generator) -> None:
    spots, truth = simulated(experiment(), None, rng)
    start = moved(shift=(1.4, -1.4, 0.5))
    known = IndexingSettings(SearchSettings(crystal_known=True))
    found, sought = (index_spots(start, spots, None, Exposure(20.0), s) for s in (known, IndexingSettings()))
    assert len(found) >= len(sought) > 50
    assert (found.hkl == truth[found.spot]).all(axis=1).mean() > 0.95
    assert not found.offset.rotation[:2].any()  # it turned about the beam at most


def test_a_run_is_the_same_twice(rng: np.random.Generator) -> None:
    spots, _ = simulated(experiment(), None, rng)
    first, again = (index_spots(moved(**STARTS["header_like"]), spots, None, Exposure(20.0)) for _ in range(2))
    np.testing.assert_array_equal(first.spot, again.spot)
    np.testing.assert_array_equal(first.hkl, again.hkl)


TILTS = {"shift": (1.0, -0.7, 0.8), "tilt": (0.3, -0.2, 0.1)}
FAR_OFF = {"shift": (-1.6, 1.5, 0.3), "rotation": (-0.3, 0.3, 0.25), "cell": 0.99}
REAL = [
    ("l_cysteine_4", {}),
    ("l_cysteine_2", {}),
    ("in16c", {}),
    ("in16c", {"shift": (0.6, -0.6, 0.5), "rotation": (-0.2, 0.2, 0.1)}),
    ("thermolysin_401", TILTS),
    ("thermolysin_701", TILTS),
    ("thermolysin_401", FAR_OFF),
]


@pytest.mark.parametrize(("name", "start"), REAL)
def test_real_spots_get_the_indices_that_others_gave_them(name: str, start: dict[str, tuple[float, ...]]) -> None:
    measured = entry(name)
    found, listed = found_spots(name), listed_spots(name)
    scan, exposure = exposure_of(measured)
    indexed = index_spots(moved_start(measured, **start), found, scan, exposure)
    distance, place = nearest_found(listed, found)
    common = distance < 1.5
    given = {int(spot): hkl for spot, hkl in zip(indexed.spot, indexed.hkl.tolist(), strict=True)}
    agrees = [given.get(int(p)) == hkl.tolist() for p, hkl in zip(place[common], listed.hkl[common], strict=True)]
    assert all(agrees)  # every one, from every start
