"""Observed spots, and which of them are left out to score a fit."""

from __future__ import annotations

import pytest
import torch

from nbtorch.errors import ConfigError
from refine.settings.fit_settings import DataSettings
from refine.spots.observations import Observations, hold_out


def observations(n: int = 400) -> Observations:
    rng = torch.Generator().manual_seed(1)
    hkl = torch.randint(-30, 31, (n, 3), generator=rng)
    frame = torch.rand(n, generator=rng, dtype=torch.float64) * 9
    number = torch.arange(n, dtype=torch.float64)
    return Observations(
        hkl, torch.zeros(n).long(), number, number, frame, number, number.expand(3, n).T, number > 3,
        torch.zeros(n, dtype=torch.bool), torch.arange(n),
    )  # fmt: skip


def held(kind: str, *, fraction: float = 0.2, modulus: int = 3, index: int = 0, seed: int = 0) -> torch.Tensor:
    return hold_out(observations(), kind, fraction, modulus, index, seed).heldout


def test_none_is_left_out_unless_asked() -> None:
    assert not held("none").any()


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_a_fraction_of_the_spots_is_left_out(fraction: float) -> None:
    assert float(held("fraction", fraction=fraction).double().mean()) == pytest.approx(fraction, abs=0.05)  # worst 0.03


def test_another_seed_leaves_out_others_and_the_same_the_same() -> None:
    assert held("fraction", seed=1).equal(held("fraction", seed=1))
    both = held("fraction", seed=1) & held("fraction", seed=2)
    assert 0 < int(both.sum()) < 40  # 400 · 0.2² = 16 by chance


def test_the_parts_of_one_draw_leave_every_spot_out_once() -> None:
    parts = torch.stack([held("fraction", index=i) for i in range(5)])
    assert parts.sum(0).eq(1).all()


def test_a_part_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 4"):
        DataSettings(holdout="fraction", holdout_fraction=0.2, holdout_index=5)
    assert DataSettings(holdout="fraction", holdout_fraction=0.2, holdout_index=4).holdout_index == 4


def test_a_spot_stays_on_its_side_when_others_come_and_go() -> None:
    whole = hold_out(observations(), "fraction", 0.3, 3, 0, 5)
    part = hold_out(observations()[torch.arange(399, 100, -3)], "fraction", 0.3, 3, 0, 5)
    assert part.heldout.equal(whole.heldout[torch.arange(399, 100, -3)])


def test_interleaved_splits_by_frame_leave_every_spot_out_once() -> None:
    splits = torch.stack([held("frame", index=i) for i in range(3)])
    assert splits.sum(0).eq(1).all()
    frames = torch.floor(observations().frame[held("frame", index=1)])
    assert set(frames.tolist()) == {1.0, 4.0, 7.0}


def test_the_fit_sees_those_that_are_not_left_out_and_every_column_follows() -> None:
    marked = hold_out(observations(), "frame", 0.2, 3, 0, 0)
    seen = marked.fitted()
    assert len(seen) == int((~marked.heldout).sum())
    assert not seen.heldout.any()
    assert seen.fast.equal(seen.found.double())
    assert seen.width.shape == (len(seen), 3)
    assert seen.hkl.equal(marked.hkl[~marked.heldout])
