"""``nb-refine --check data.frames=…`` without an experiment list: geometry with its origins, spots, rings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from nbtorch.io import read_expt, write_cbf
from refine.__main__ import main
from tests.io.test_header_geometry import MINI

PLACES = ((100, 60), (240, 150), (400, 40))  # fast, slow of the spots


def frames(folder: Path, count: int = 2, **changed: str | None) -> Path:
    """Frames with three spots each on a flat background."""
    random = np.random.default_rng(1)
    slow, fast = np.mgrid[:195, :487]
    for n in range(1, count + 1):
        light = sum(400 * np.exp(-((fast - f) ** 2 + (slow - s) ** 2) / 2) for f, s in PLACES)
        counts = random.poisson(5 + light).astype(np.int32)
        lines = {**MINI, "Start_angle": f"{n * 0.25:.4f} deg.", **changed}
        write_cbf(folder / f"run_{n}.cbf", counts, {key: value for key, value in lines.items() if value is not None})
    return folder / "run_*.cbf"


def test_the_geometry_is_printed_with_its_origins_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pattern = frames(tmp_path)
    out = tmp_path / "out"
    assert main(["--check", f"data.frames={pattern}", "geometry.distance=101.5", f"hydra.run.dir={out}"]) == 0
    said = capsys.readouterr().out
    assert "geometry: distance 101.5 mm: geometry.distance, as stated" in said
    assert "geometry: beam_centre 240.5 97.25 px: # Beam_xy" in said
    assert "geometry: fast_axis 1 0 0: assumed, along +x" in said
    assert (
        "the beam meets panel 0 at 240.50, 97.25 px (fast, slow), whose plane stands 101.5 mm from the sample" in said
    )
    assert "the frames are 1 scan (2 frames from 0.25° in steps of 0.25°)" in said
    assert re.search(r"experiment 0, scan without a crystal: 2 frames, 3 spots found", said)
    written = read_expt(out / "imported.expt")[0]
    assert written.crystal is None
    assert written.detector.panels[0].origin[2] == -101.5
    assert [path.name for path in written.images] == ["run_1.cbf", "run_2.cbf"]
    page = (out / "check.html").read_text()
    assert "geometry: distance 101.5 mm: geometry.distance, as stated" in page
    assert page.count("<rect ") == 6  # three spots on each of two frames
    # 2θ of 5 Å is 11.9°, 21.4 mm of the 16.7 above the beam: the ring leaves the detector and comes back
    assert len(re.findall(r"<title>5 Å</title>", page)) >= 2 * 2
    cross = re.findall(r'<polyline points="([\d.]+),([\d.]+) ([\d.]+),([\d.]+) "><title>the beam', page)
    assert (float(cross[0][0]) + float(cross[0][2])) / 2 == pytest.approx(240.5, abs=0.1)
    assert float(cross[0][1]) == pytest.approx(97.25, abs=0.1)


def test_what_is_missing_is_named_with_its_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pattern = frames(tmp_path, 1, Beam_xy=None)
    assert main(["--check", f"data.frames={pattern}", f"hydra.run.dir={tmp_path / 'out'}"]) == 1
    assert "Give geometry.beam_centre=[PX,PX]" in capsys.readouterr().err
    given = [f"data.frames={pattern}", "geometry.beam_centre=[240.5,97.25]", f"hydra.run.dir={tmp_path / 'out'}"]
    assert main(["--check", *given]) == 0


def test_frames_without_a_spot_are_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = np.random.default_rng(2).poisson(5, (195, 487)).astype(np.int32)
    path = write_cbf(tmp_path / "empty_1.cbf", counts, MINI)
    assert main(["--check", f"data.frames={path}", f"hydra.run.dir={tmp_path / 'out'}"]) == 1
    assert "no spot stands out of them" in capsys.readouterr().err
    assert not (tmp_path / "out" / "check.html").exists()
