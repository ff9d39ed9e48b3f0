"""Shoeboxes: where they lie, which of their pixels count, and the backgrounds they can have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbtorch.config import RenderSettings
from nbtorch.errors import DataError
from refine.frames.shoeboxes import MAX_PIXELS, BoxPlan, Shoeboxes, background_columns, cut, plan_boxes
from refine.pixels.block import Block
from tests.refine import tiny
from tests.refine.held import HeldPixels

N_FRAMES = 4


def planned(centres: list[tuple[float, float, float]], half: tuple[int, int] = (2, 1)) -> tuple[BoxPlan, list[int]]:
    n = len(centres)
    hkl, panel = np.arange(3 * n).reshape(n, 3), np.zeros(n, dtype=int)
    plan, keep = plan_boxes(tiny.detector_config(), hkl, panel, np.array(centres, dtype=float), half, N_FRAMES)
    return plan, keep.tolist()


def frames() -> list[list[np.ndarray]]:
    """Counts that tell where they come from: frame·10⁶ + slow·10³ + fast."""
    slow, fast = np.mgrid[: tiny.SIZE, : tiny.SIZE]
    return [[z * 1e6 + slow * 1e3 + fast] for z in range(N_FRAMES)]


def boxes_of(plan: BoxPlan, valid: list[list[np.ndarray]] | None = None) -> Shoeboxes:
    every = [[np.ones((tiny.SIZE, tiny.SIZE), dtype=bool)] for _ in range(N_FRAMES)]
    return cut(plan, HeldPixels(frames(), valid or every), (np.array([2.0]), np.array([3.0])))


def test_a_box_reaches_its_half_widths_to_either_side_of_the_pixel_that_holds_the_centre() -> None:
    plan, _ = planned([(30.9, 20.1, 1.5)])
    assert (plan.fast.tolist(), plan.slow.tolist(), plan.frame.tolist()) == ([[28, 33]], [[18, 23]], [[0, 3]])


def test_boxes_are_cut_at_the_edges_of_the_panel_and_the_ends_of_the_scan() -> None:
    last = tiny.SIZE - 1
    plan, _ = planned([(0.2, last + 0.5, 0.1), (last + 0.9, 1.0, 3.9)])
    assert plan.fast.tolist() == [[0, 3], [last - 2, last + 1]]
    assert plan.slow.tolist() == [[last - 2, last + 1], [0, 4]]
    assert plan.frame.tolist() == [[0, 2], [2, 4]]


def test_a_reflection_whose_box_misses_panel_or_scan_has_none() -> None:
    plan, keep = planned([(-3.1, 20, 1.5), (-1.9, 20, 1.5), (20, 20, 6.1), (20, 20, -0.9)])
    assert keep == [1, 3]
    assert plan.hkl.tolist() == [[3, 4, 5], [9, 10, 11]]
    assert plan.fast.tolist() == [[0, 1], [18, 23]]


def test_every_pixel_holds_its_own_counts_and_its_panels_noise() -> None:
    plan, _ = planned([(10.5, 20.5, 1.5), (0.5, 40.5, 0.5)])
    boxes = boxes_of(plan)
    place = boxes.frame.double() * 1e6 + boxes.slow * 1e3 + boxes.fast
    assert boxes.counts[boxes.valid].equal(place[boxes.valid])
    assert boxes.valid.sum(1).tolist() == [3 * 5 * 5, 2 * 5 * 3]
    assert boxes.n_pixels == 105
    assert (boxes.gain.tolist(), boxes.readout.tolist()) == ([2.0, 2.0], [3.0, 3.0])


def test_a_pixel_of_two_boxes_is_rendered_once() -> None:
    plan, _ = planned([(30.5, 30.5, 0.5), (32.5, 30.5, 0.5)], half=(2, 0))
    boxes = boxes_of(plan)
    ((frame, pixels),) = boxes.selections
    assert frame == 0
    assert boxes.n_pixels == 50
    assert len(pixels) == 35  # 5 × 7: two boxes of 5 × 5 that share 5 × 3
    shared = torch.stack([boxes.slow, boxes.fast], -1)[boxes.valid].long()
    seen = torch.stack([pixels.slow, pixels.fast], -1)[boxes.position[boxes.valid]]
    assert seen.equal(shared)


def test_positions_run_through_the_frames_in_order() -> None:
    plan, _ = planned([(30.5, 30.5, 1.5), (60.5, 30.5, 3.5)])
    boxes = boxes_of(plan)
    assert [frame for frame, _ in boxes.selections] == [0, 1, 2, 3]
    number = torch.cat([torch.full((len(pixels),), frame) for frame, pixels in boxes.selections])
    assert number[boxes.position[boxes.valid]].equal(boxes.frame[boxes.valid])


def test_masked_pixels_hold_nothing_and_are_not_rendered() -> None:
    plan, _ = planned([(30.5, 30.5, 1.5)])
    valid = [[np.ones((tiny.SIZE, tiny.SIZE), dtype=bool)] for _ in range(N_FRAMES)]
    valid[1][0][30] = False
    whole, masked = boxes_of(plan), boxes_of(plan, valid)
    assert masked.n_pixels == whole.n_pixels - 5
    assert not masked.counts[~masked.valid].any()
    assert sum(len(pixels) for _, pixels in masked.selections) == masked.n_pixels
    assert all(30 not in pixels.slow for frame, pixels in masked.selections if frame == 1)


def test_a_frame_of_nothing_but_nan_costs_its_own_pixels_alone() -> None:
    plan, _ = planned([(30.5, 30.5, 1.5)])
    counts = frames()
    counts[2][0][:] = np.nan
    valid = [[np.isfinite(frame[0])] for frame in counts]
    boxes = cut(plan, HeldPixels(counts, valid), (np.ones(1), np.zeros(1)))
    assert torch.isfinite(boxes.counts).all()
    assert [frame for frame, _ in boxes.selections] == [0, 1]


def test_an_empty_plan_and_a_wholly_masked_one_are_refused() -> None:
    plan, _ = planned([(30.5, 30.5, 1.5)])
    nothing = [[np.zeros((tiny.SIZE, tiny.SIZE), dtype=bool)] for _ in range(N_FRAMES)]
    with pytest.raises(DataError, match="no reflection is predicted where pixels were measured"):
        boxes_of(plan[np.zeros(1, dtype=bool)])
    with pytest.raises(DataError, match="every pixel of them is masked"):
        boxes_of(plan, nothing)


def test_more_pixels_than_memory_holds_are_refused_before_they_are_allocated() -> None:
    plan, _ = planned([(48, 48, 1.5)], half=(48, 2))
    count = MAX_PIXELS // (tiny.SIZE**2 * N_FRAMES) + 2
    many = plan[np.zeros(count, dtype=int)]
    with pytest.raises(DataError, match=r"exceed the memory.*loss.box_half_width lower"):
        boxes_of(many)


def background_of(kind: str) -> tuple[Shoeboxes, torch.Tensor]:
    plan, _ = planned([(30.5, 30.5, 1.5), (1.5, 60.5, 0.5)])  # the second one has two frames and is narrow
    boxes = boxes_of(plan)
    return boxes, background_columns(boxes, kind)


@pytest.mark.parametrize(("kind", "columns"), [("constant", 1), ("frame", 3), ("plane", 9)])
def test_a_background_has_one_column_a_freedom_and_none_outside_its_box(kind: str, columns: int) -> None:
    boxes, design = background_of(kind)
    assert design.shape == (*boxes.valid.shape, columns)
    assert not design[~boxes.valid].any()


def test_a_background_of_each_kind_is_what_its_name_says() -> None:
    """A least-squares fit of the design reproduces what it should, and nothing that it should not."""
    for kind, exact in (("constant", "c"), ("frame", "c f"), ("plane", "c f p")):
        boxes, design = background_of(kind)
        shapes = {
            "c": torch.ones_like(boxes.counts),
            "f": 1.0 + boxes.frame.double() ** 2,
            "p": 1.0 + boxes.frame.double() ** 2 + (0.3 * boxes.fast - 0.2 * boxes.slow) * (1 + boxes.frame),
        }
        for name, wanted in shapes.items():
            for box in range(len(boxes)):
                use = boxes.valid[box]
                left = (
                    wanted[box][use]
                    - design[box][use]
                    @ torch.linalg.lstsq(design[box][use], wanted[box][use][:, None], driver="gelsd").solution[:, 0]
                )
                close = float(left.abs().max()) < 1e-10  # worst seen 1.5e-14 where it fits, least 0.5 where not
                assert close == (name in exact.split()), (kind, name)


def test_the_columns_of_a_plane_are_of_one_size() -> None:
    _, design = background_of("plane")
    assert float(design.abs().max()) == 1.0


def test_frames_count_from_the_first_of_each_box() -> None:
    plan, _ = planned([(30.5, 30.5, 3.5)])
    boxes = boxes_of(plan)
    assert boxes.frame[boxes.valid].unique().tolist() == [2, 3]
    assert background_columns(boxes, "frame").shape[2] == 2


def test_the_rendered_spots_of_boxes_are_those_of_the_whole_frame() -> None:
    (expt,) = tiny.experiments()
    boxes = tiny.empty_boxes(expt, tiny.plan(expt, 3))
    parameters = tiny.parameter_set([expt], ["crystal[0].rot_*"])
    settings = RenderSettings(oversample=1)
    spots = Block(0, expt, [tiny.EXPOSURE], boxes, settings, "constant").model(parameters)
    from nbtorch.render import Renderer

    with torch.no_grad():
        image = Renderer(expt, settings=settings).images(tiny.EXPOSURE)[0]
    whole = image[boxes.slow.long(), boxes.fast.long()]
    assert spots[boxes.valid].equal(whole[boxes.valid])
    assert not spots[~boxes.valid].any()
