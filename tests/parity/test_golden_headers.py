"""Every key of every golden SMV header, to the printed digits, and what the original printed about each command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nbtorch.io.smv import header_bytes, parse_header, read_smv
from nbtorch.nanobragg.cli.inputs import load
from nbtorch.nanobragg.cli.nanobragg import main
from nbtorch.nanobragg.cli.outputs import smv_header
from nbtorch.nanobragg.cli.parsing import parse
from nbtorch.nanobragg.resolve import Inputs, Resolved, Stated, resolve
from nbtorch.nanobragg.resolve.crystal import simulated_cell
from tests.helpers.golden import cases, float_image, golden_image


def resolved(name: str) -> Resolved:
    """A golden command, resolved but not rendered."""
    parsed = parse(cases()[name].argv())
    stated = Stated(order=parsed.order, **parsed.values)
    return resolve(stated, load(stated).inputs)


@pytest.mark.parametrize("name", cases())
def test_every_header_key_agrees(name: str) -> None:
    case = cases()[name]
    header, _ = parse_header(header_bytes(case.shape, smv_header(resolved(name))), Path(name))
    assert header == case.header
    assert list(header) == list(case.header), "the order of the keys"


@pytest.mark.parametrize("name", cases())
def test_printed_counts_and_cell_agree(name: str) -> None:
    case, ours = cases()[name], resolved(name)
    assert len(ours.beam.sources) == int(case.printed["sources"])
    assert ours.render.oversample == int(case.printed["oversample"])
    assert " ".join(f"{x:.6g}" for x in simulated_cell(ours.crystal)) == case.printed["cell"]
    assert ",".join(f"{x:g}" for x in ours.placement.dials_origin) == case.printed["pix0_dials"]


@pytest.mark.parametrize(("name", "expected"), [("simple_cubic", "nearest"), ("N_one_interpolates", "tricubic")])
def test_interpolation_switches_itself_on_for_a_tiny_crystal(name: str, expected: str) -> None:
    assert resolved(name).render.interpolation == expected


def test_a_header_is_512_bytes_and_closed_by_a_form_feed(tmp_path: Path) -> None:
    path = tmp_path / "int.img"
    assert main(cases()["simple_cubic"].argv("-intfile", str(path))) == 0
    content = path.read_bytes()
    assert content[:512].rstrip(b" ").endswith(b"}\f")
    assert len(content) == 512 + 2 * 128 * 128


def test_an_images_own_header_places_the_same_detector(tmp_path: Path) -> None:
    path = tmp_path / "int.img"
    case = cases()["tilted_xds"]
    assert main(case.argv("-intfile", str(path))) == 0
    header = dict(read_smv(path).header)
    stated = Stated(cell=(74.0, 86.0, 98.0, 90.0, 90.0, 90.0), convention="XDS", oversample=1)
    ours = resolve(stated, Inputs(image_header=header))
    assert ours.placement.pixels == (100, 100)
    assert ours.placement.close_distance == pytest.approx(110)
    assert ours.placement.twotheta == pytest.approx(3)


def test_flags_override_a_header() -> None:
    header = {"SIZE1": "80", "SIZE2": "70", "DISTANCE": "120", "CLOSE_DISTANCE": "119", "WAVELENGTH": "1.1"}
    stated = Stated(cell=(50.0, 50.0, 50.0, 90.0, 90.0, 90.0), distance=200.0, oversample=1, order=("img", "distance"))
    ours = resolve(stated, Inputs(image_header=header))
    assert ours.placement.pixels == (80, 70)
    assert ours.placement.distance == pytest.approx(200)
    assert ours.beam.wavelength == 1.1


def test_of_two_headers_the_one_named_last_wins() -> None:
    base = Stated(cell=(50.0, 50.0, 50.0, 90.0, 90.0, 90.0), oversample=1)
    inputs = Inputs(image_header={"DISTANCE": "120"}, mask_header={"DISTANCE": "130"})
    for order, expected in ((("img", "mask"), 130.0), (("mask", "img"), 120.0)):
        ours = resolve(dataclasses.replace(base, order=order), inputs)
        assert ours.placement.distance == pytest.approx(expected)


def test_a_mask_counts_its_beam_centre_from_the_far_edge() -> None:
    header = {"SIZE1": "80", "SIZE2": "70", "PIXEL_SIZE": "0.5", "BEAM_CENTER_X": "10", "BEAM_CENTER_Y": "12"}
    base = Stated(cell=(50.0, 50.0, 50.0, 90.0, 90.0, 90.0), oversample=1)
    assert resolve(base, Inputs(mask_header=header)).placement.y_beam == pytest.approx(70 * 0.5 - 12)
    assert resolve(base, Inputs(image_header=header)).placement.y_beam == pytest.approx(12)


def test_a_masked_pixel_is_zero_and_not_counted(tmp_path: Path) -> None:
    case, path = cases()["mask_header"], tmp_path / "f.bin"
    assert main(case.argv("-floatfile", str(path))) == 0
    mask = read_smv(case.argv()[case.argv().index("-mask") + 1]).counts
    image = float_image(path, case.shape)
    assert (mask == 0).sum() > 100
    assert (image[mask == 0] == 0).all()
    assert ((image == 0) == (golden_image("mask_header") == 0)).all()
