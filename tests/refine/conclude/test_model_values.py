"""Every value of the model says whether it was stated, assumed, estimated or fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbtorch.io.table import read_json
from refine.__main__ import main
from refine.records.model_value import ORIGINS
from tests.refine import small

QUIET = ("trainer.progress=none", "trainer.logger=none", "parameters.cell=false", "parameters.fix=['*.rot_normal']")


def fitted(folder: Path, name: str, *words: str) -> dict[str, dict[str, Any]]:
    """The rows of the values by name."""
    given = [f"data.experiment={folder / 'start.expt'}", f"data.amplitudes={folder / 'F.hkl'}"]
    main([*given, f"hydra.run.dir={folder / name}", *QUIET, *words])  # right or wrong, it says what it is made of
    rows = read_json(folder / name / "result.json")["model"]
    assert len({row["name"] for row in rows}) == len(rows)
    assert {row["origin"] for row in rows} <= set(ORIGINS)
    return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    small.write(made)
    return made


@pytest.fixture(scope="module")
def bare(folder: Path) -> dict[str, dict[str, Any]]:
    """Of a fit to a scan of which nothing more was said."""
    return fitted(folder, "bare", "parameters=all", "parameters.mosaic_spread=false")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, dict[str, Any]]:
    """Of a fit of the crystal with much said."""
    words = ("crystal.n_cells=[12,11,9]", "parameters.n_cells=false", "crystal.mosaic_spread=0", "render.shape=round")
    more = ("render.oversample=3", "data.gain=1", "loss.background=plane", "beam.spectrum=[[0.0,1.0],[0.001,0.5]]")
    return fitted(folder, "told", "parameters=crystal", *words, *more)


@pytest.mark.parametrize(
    ("name", "origin", "source"),
    [
        ("wavelength", "stated", ".expt"),
        ("spectrum", "assumed", "nothing says how wide it is"),
        ("detector distance", "fitted", "parameters"),
        ("detector shift", "fitted", "parameters"),
        ("cell", "stated", ".expt"),
        ("orientation", "fitted", "parameters"),
        ("number of cells", "fitted", "parameters"),
        ("mosaic spread", "estimated", "the spots' width over the frames"),
        ("spot shape", "assumed", "nothing says which"),
        ("gain", "assumed", "a detector that counts"),
        ("read-out noise", "assumed", "nothing states it"),
        ("background of a shoebox", "estimated", "how much there is"),
        ("amplitudes", "stated", "data.amplitudes"),
    ],
)
def test_what_nobody_stated_is_said_to_be_assumed_or_estimated(
    bare: dict[str, dict[str, Any]], name: str, origin: str, source: str
) -> None:
    assert (bare[name]["origin"], bare[name]["source"]) == (origin, source)


@pytest.mark.parametrize(
    ("name", "origin", "source"),
    [
        ("spectrum", "stated", "beam.spectrum"),
        ("detector distance", "stated", ".expt"),
        ("orientation", "fitted", "parameters"),
        ("number of cells", "stated", "crystal.n_cells"),
        ("mosaic spread", "stated", "crystal.mosaic_spread"),
        ("spot shape", "stated", "render.shape"),
        ("gain", "stated", "data.gain"),
        ("sub-pixels a side", "stated", "render.oversample"),
        ("background of a shoebox", "stated", "loss.background"),
    ],
)
def test_what_the_user_states_is_said_to_be_stated(
    told: dict[str, dict[str, Any]], name: str, origin: str, source: str
) -> None:
    assert (told[name]["origin"], told[name]["source"]) == (origin, source)


def test_values_are_those_at_the_end(bare: dict[str, dict[str, Any]]) -> None:
    assert bare["wavelength"]["value"] == 1.0
    assert bare["pixel size"]["value"] == [small.PIXEL, small.PIXEL]
    assert bare["detector distance"]["value"] == pytest.approx(small.DISTANCE - small.SHIFT[2], abs=0.5)
    assert bare["number of cells"]["value"] == pytest.approx(list(small.N_CELLS), rel=0.5)
    assert bare["sub-pixels a side"]["value"] in (1, 2, 3)
    assert bare["space group"]["value"] == "P 2 2 2"


def test_what_the_last_stage_held_is_not_said_to_be_fitted(folder: Path) -> None:
    """The crystal is misset and held, so that no shape is explained: its size stays what the spots' width told."""
    held = fitted(folder, "held", "parameters=detector")
    assert held["relative error of spot shapes"]["origin"] == "estimated"
    assert (held["number of cells"]["origin"], held["number of cells"]["source"]) == ("estimated", "the spots' width")
