"""Blocks, regions, masks, lists and shoeboxes choose pixels; they never change one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nbtorch.errors import DataError
from nbtorch.render import PixelSelection, Renderer, full_frame, masked, pixel_list, roi, shoeboxes
from tests.helpers.scenes import RICH, Features, detector_config, experiment, settings

DETECTOR = detector_config(RICH)
MODES = ("exact", "cached", "running_polar")


def selections() -> dict[str, PixelSelection]:
    mask = [torch.rand(panel.size[1], panel.size[0]) > 0.7 for panel in DETECTOR.panels]
    boxes, _ = shoeboxes(DETECTOR, np.array([[0, 5.5, 6.5], [1, 0.2, 15.9], [1, 9.0, 3.0]]), 2)
    return {
        "roi": roi(DETECTOR, fast=(3, 8), slow=(2, 11), panel=1),
        "mask": masked(DETECTOR, mask),
        "list": pixel_list(DETECTOR, torch.tensor([1, 0, 1]), torch.tensor([3, 15, 0]), torch.tensor([0, 17, 9])),
        "shoeboxes": boxes,
        "one pixel": pixel_list(DETECTOR, torch.tensor([0]), torch.tensor([7]), torch.tensor([7])),
    }


def rendered(features: Features, pixels: PixelSelection, **changed: Any) -> torch.Tensor:
    chosen = replace(settings(features), **changed)
    with torch.no_grad():
        return Renderer(experiment(features), pixels, chosen)()


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", selections())
def test_selected_pixels_have_the_values_of_the_full_frame(name: str, mode: str, backend: str) -> None:
    features, pixels = replace(RICH, mode=mode), selections()[name]
    whole = full_frame(DETECTOR)
    expected = pixels.gather(whole.images(rendered(features, whole, backend=backend)))
    # worst seen 0; a BLAS may group a shorter list of pixels otherwise
    torch.testing.assert_close(rendered(features, pixels, backend=backend), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block_bytes", [1, 10**5])
def test_blocks_do_not_change_the_image_or_its_gradient(mode: str, block_bytes: int, backend: str) -> None:
    """One pixel a block, and a few, against everything at once."""
    features = replace(RICH, mode=mode)
    pixels = roi(DETECTOR, fast=(3, 7), slow=(2, 4))
    found = []
    for size in (2**40, block_bytes):
        renderer = Renderer(
            experiment(features), pixels, replace(settings(features), block_bytes=size, backend=backend)
        )
        value = renderer()
        value.backward(torch.linspace(0.5, 1.5, len(value), dtype=value.dtype))
        found.append((value.detach(), {name: p.grad for name, p in renderer.named_parameters()}))
    (whole, gradients), (chunked, others) = found
    # worst seen 0; a BLAS may group a shorter list of pixels otherwise
    torch.testing.assert_close(chunked, whole, rtol=1e-14, atol=0)
    for name, gradient in gradients.items():
        assert gradient is not None
        assert others[name] is not None
        # of each parameter's largest: another order of the sum; worst seen 2.0e-14: mosaic_spread, where ±v cancel
        assert float((gradient - others[name]).abs().max()) <= 1e-13 * float(gradient.abs().max()), name


def test_progress_is_told_after_every_block_and_after_a_single_one() -> None:
    features, pixels = Features(), roi(DETECTOR, (0, 4), (0, 1))
    for block_bytes, expected in ((1, [(i + 1, 10) for i in range(10)]), (2**30, [(10, 10)])):
        told: list[tuple[int, int]] = []
        chosen = replace(settings(features), block_bytes=block_bytes)
        Renderer(experiment(features), pixels, chosen)(progress=lambda done, total, to=told: to.append((done, total)))
        assert told == expected


def test_progress_is_told_often_where_pixels_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that fit the memory may still take a minute each; smaller ones change no value."""
    features, pixels = Features(mosaic="antithetic"), roi(DETECTOR, (0, 4), (0, 1))
    model = Renderer(experiment(features), pixels, settings(features))
    whole = model()
    monkeypatch.setattr("nbtorch.render.renderer._SHOWN", 3 * len(model.scene().basis))
    told: list[int] = []
    parts = model(progress=lambda done, total: told.append(done))
    assert told == [3, 6, 9, 10]
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)  # worst seen 8.3e-14: another order of the sum


def test_a_selection_of_nothing_renders_nothing() -> None:
    nothing = masked(DETECTOR, [torch.zeros(shape, dtype=torch.bool) for shape in full_frame(DETECTOR).shapes])
    for mode in MODES:
        assert rendered(replace(RICH, mode=mode), nothing).shape == (0,)


def test_images_put_values_in_their_place_and_fill_the_rest() -> None:
    pixels = pixel_list(DETECTOR, torch.tensor([1, 0]), torch.tensor([3, 2]), torch.tensor([4, 1]))
    first, second = pixels.images(torch.tensor([7.0, 9.0]), fill=-1.0)
    assert first.shape == (16, 18)
    assert float(first[2, 1]) == 9.0
    assert float(second[3, 4]) == 7.0
    assert int((first == -1).sum() + (second == -1).sum()) == 2 * 16 * 18 - 2
    assert pixels.gather([first, second]).tolist() == [7.0, 9.0]


def test_shoeboxes_are_cut_at_the_edge_and_know_their_spot() -> None:
    pixels, spot = shoeboxes(DETECTOR, np.array([[0, 5.5, 6.5], [1, 0.2, 15.9], [0, -0.5, 3.0]]), 1)
    assert torch.bincount(spot).tolist() == [9, 4, 3]  # the last lies in the pixel before the first: one column of it
    here = spot == 0
    assert (int(pixels.fast[here].min()), int(pixels.fast[here].max())) == (4, 6)
    assert (int(pixels.slow[here].min()), int(pixels.slow[here].max())) == (5, 7)
    assert set(pixels.panel[spot == 1].tolist()) == {1}
    assert set(pixels.fast[spot == 2].tolist()) == {0}


def test_pixels_outside_the_detector_are_refused() -> None:
    one = torch.tensor([1])
    for panel, slow, fast in ((2, 0, 0), (-1, 0, 0), (0, 16, 0), (0, 0, 18), (0, -1, 0)):
        with pytest.raises(DataError, match="outside the detector"):
            pixel_list(DETECTOR, panel * one, slow * one, fast * one)


@pytest.mark.parametrize("centre", [[2, 5.0, 5.0], [-1, 5.0, 5.0], [0, np.nan, 5.0]])
def test_a_shoebox_on_no_panel_or_at_no_place_is_refused(centre: list[float]) -> None:
    with pytest.raises(DataError, match="shoebox on panel"):
        shoeboxes(DETECTOR, np.array([centre]), 2)


def test_no_shoebox_and_masks_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match="empty list of shoeboxes"):
        shoeboxes(DETECTOR, np.zeros((0, 3)), 2)
    with pytest.raises(DataError, match="a mask of shape"):
        masked(DETECTOR, [torch.ones(16, 18, dtype=torch.bool)])
    with pytest.raises(DataError, match="images of shape"):
        full_frame(DETECTOR).gather([np.zeros((16, 18)), np.zeros((18, 16))])
