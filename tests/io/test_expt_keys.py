"""Every key of an experiment list changes what is read, is refused, or is named as not used."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbtorch.errors import DataError, FileError
from nbtorch.io import read_expt, read_mask, read_pixel_map, write_expt
from nbtorch.io.expt import ExptUpdates, PixelFiles, differences, equal_models
from tests.helpers.data import shared
from tests.io.documents import Document, document, group, panel, write

Place = tuple[str | int, ...]


def everything() -> Document:
    """Two experiments with every key that dxtbx, DIALS and older programs write."""
    base = document()
    base["beam"][0] |= {
        "__id__": "monochromatic",
        "divergence": 0.0,
        "sigma_divergence": 0.0,
        "transmission": 1.0,
        "probe": "x-ray",
        "sample_to_source_distance": 0.0,
        "s0_at_scan_points": [[0, 0, -0.9], [0, 0.001, -0.9]],
    }
    strategy = {"type": "ParallaxCorrectedPxMmStrategy", "t0": 0.3, "mu": 2.0}
    panels = [
        panel("P", [-3.0, 2.0, -100.0], px_mm_strategy=strategy, projection_2d=[[1, 0, 0, 1], [0, 0]]),
        panel("Q", [5.0, 2.0, -100.0], type="SENSOR_PAD"),
    ]
    arm = group("arm", [{"panel": 0}, {"panel": 1}], gain=1.0, px_mm_strategy={"type": "SimplePxMmStrategy"})
    base["detector"] = [{"panels": panels, "hierarchy": group("", [arm], type="", image_size=[0, 0])}]
    base["goniometer"].append(
        {"axes": [[1, 0, 0], [0, 1, 0]], "angles": [5.0, 6.0], "names": ["PHI", "OMEGA"], "scan_axis": 1}
    )
    base["goniometer"][0]["setting_rotation_at_scan_points"] = [[1, 0, 0, 0, 1, 0, 0, 0, 1]] * 2
    base["scan"][0] |= {"exposure_time": [1.0] * 3, "valid_image_ranges": {}}
    starts = {"oscillation": [1.0, 1.5], "oscillation_width": [0.5, 0.5], "epochs": [0.0, 1.0]}
    base["scan"].append({"image_range": [1, 2], "batch_offset": 0, "properties": starts})
    base["crystal"][0] |= {
        "A_at_scan_points": [[0.025, 0, 0, 0, 0.025, 0, 0, 0, 0.014]] * 4,
        "ML_half_mosaicity_deg": 0.1,
        "ML_domain_size_ang": 1000.0,
        "mosaicity": 0.1,
        "recalculated_unit_cell": [40.0, 40.0, 70.0, 90.0, 90.0, 90.0],
    }
    base["imageset"][0] |= {"mask": "m.npy", "gain": None, "pedestal": None, "dx": None, "dy": None}
    base["imageset"][0]["params"] = {"dynamic_shadowing": "Auto", "multi_panel": False}
    base["imageset"].append({"__id__": "ImageSet", "images": ["a.h5", "a.h5"], "single_file_indices": [0, 1]})
    base["experiment"].append(base["experiment"][0] | {"identifier": "x", "goniometer": 1, "scan": 1, "imageset": 1})
    return base


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place whose value is no object and no array of objects."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*place, key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, (*place, index))
    elif place[-1] != "children":
        yield place


def objects(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place whose value is an object."""
    if isinstance(value, dict):
        yield place
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from objects(item, (*place, key))


def changes(value: Any) -> Iterator[Any]:
    """Other values of the same kind: of a list its first or its last item is another (one may be the length alone)."""
    if isinstance(value, str):
        yield from (value + "x", "?")
    elif isinstance(value, bool) or value is None:
        yield "x"
    elif isinstance(value, dict):
        yield {"x": 1}
    elif isinstance(value, list):
        yield from ([item, *value[1:]] for item in changes(value[0])) if value else ([1],)
        yield from ([*value[:-1], item] for item in changes(value[-1])) if value else ()
    else:
        yield value + 1 if isinstance(value, int) else value * 0.97 + 0.01


def at(content: Any, place: Place) -> Any:
    for key in place:
        content = content[key]
    return content


def name(place: Place) -> str:
    return ".".join(key for key in place if isinstance(key, str) and key != "children")


@pytest.mark.parametrize("place", list(leaves(everything())), ids=lambda place: ".".join(str(key) for key in place))
def test_every_key_changes_what_is_read_is_refused_or_is_named(tmp_path: Path, place: Place) -> None:
    before = read_expt(write(tmp_path, everything()))

    def matters(value: Any) -> bool:
        content = copy.deepcopy(everything())
        at(content, place[:-1])[place[-1]] = value
        try:
            after = read_expt(write(tmp_path, content))
        except FileError:
            return True
        named = {word.rstrip(",:") for note in after.not_used for word in note.split()}
        return after.entries != before.entries or name(place) in named

    assert any(matters(value) for value in changes(at(everything(), place)))


@pytest.mark.parametrize("place", list(objects(everything())), ids=lambda place: ".".join(str(key) for key in place))
def test_a_key_that_nobody_knows_is_named(tmp_path: Path, place: Place) -> None:
    content = copy.deepcopy(everything())
    at(content, place)["new_key"] = 5
    named = {word.rstrip(",") for word in read_expt(write(tmp_path, content)).not_used[-1].split()}
    assert name((*place, "new_key")) in named


def test_what_would_matter_is_named_with_what_is_done_instead(tmp_path: Path) -> None:
    content = everything()
    content["imageset"][0] |= {"dx": "dx.pickle", "dy": "dy.pickle"}
    said = " | ".join(read_expt(write(tmp_path, content)).not_used)
    for words in (
        "beam.s0_at_scan_points is not used: the beam's direction at each scan point; its static direction",
        "goniometer.setting_rotation_at_scan_points is not used",
        "imageset.dx is not used: a map of pixel offsets",
        "imageset.dy is not used: a map of pixel offsets",
        "imageset.params.dynamic_shadowing is not used: shadows",
        "crystal.mosaicity is not used",
    ):
        assert words in said
    assert read_expt(write(tmp_path, document(profile=[]))).not_used[-1].startswith("kept as they are and not used: ")


@pytest.mark.parametrize(
    ("strategy", "thickness", "mu", "expected"),
    [
        ({"type": "OffsetParallaxCorrectedPxMmStrategy"}, 0.32, 2.5, (0.32, 0.4)),
        ({"type": "ParallaxCorrectedPxMmStrategy", "t0": 0.5, "mu": 2.0}, 0.0, 0.0, (0.5, 0.5)),
        ({"type": "ParallaxCorrectedPxMmStrategy", "t0": 0.5, "mu": 2.0}, 0.32, 2.5, (0.5, 0.5)),
        ({"type": "OffsetPxMmStrategy"}, 0.32, 2.5, (0.0, np.inf)),
        ({"type": "SimplePxMmStrategy", "t0": 0.5, "mu": 2.0}, 0.32, 2.5, (0.0, np.inf)),
    ],
)
def test_the_depth_of_a_sensor_is_dxtbxs(
    tmp_path: Path, strategy: Document, thickness: float, mu: float, expected: tuple[float, float]
) -> None:
    only = panel("P", [0, 0, -100.0], px_mm_strategy=strategy, thickness=thickness, mu=mu)
    found = read_expt(write(tmp_path, document(detector=[{"panels": [only]}])))[0].detector.panels[0]
    assert (found.thickness, found.attenuation_length) == expected


def test_a_strategy_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    only = panel("P", [0, 0, -100.0], px_mm_strategy={"type": "NewStrategy"})
    with pytest.raises(FileError, match=r"px_mm_strategy\.type.*'NewStrategy' is not a known strategy"):
        read_expt(write(tmp_path, document(detector=[{"panels": [only]}])))


def test_beams_at_scan_points_go_when_the_beam_moves_and_stay_when_it_does_not(tmp_path: Path) -> None:
    read = read_expt(write(tmp_path, everything()))
    same = write_expt(tmp_path / "same.expt", read, ExptUpdates(beams={0: read[0].beam}))
    assert "s0_at_scan_points" in json.loads(same.read_text())["beam"][0]
    for number, change in enumerate(
        (replace(read[0].beam, direction=(0.01, 0, -1)), replace(read[0].beam, wavelength=2))
    ):
        moved = write_expt(tmp_path / f"moved{number}.expt", read, ExptUpdates(beams={0: change}))
        assert "s0_at_scan_points" not in json.loads(moved.read_text())["beam"][0]


def test_image_numbers_and_pixel_files_are_read_and_move_with_the_document(tmp_path: Path) -> None:
    content = everything()
    content["imageset"][0] |= {"gain": "g.npy", "pedestal": "p.npy"}
    np.save(tmp_path / "m.npy", np.ones((4, 6)))
    read = read_expt(write(tmp_path, content))
    assert read[0].pixel_files == PixelFiles(tmp_path / "m.npy", tmp_path / "g.npy", tmp_path / "p.npy")
    assert (read[0].image_indices, read[1].image_indices) == ((), (0, 1))
    assert read[1].pixel_files == PixelFiles()
    (tmp_path / "sub").mkdir()
    again = read_expt(write_expt(tmp_path / "sub" / "t.expt", read, ExptUpdates()))
    assert again[0].pixel_files == read[0].pixel_files


def test_image_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for indices in ([0], [0, -1]):
        content = everything()
        content["imageset"][1]["single_file_indices"] = indices
        with pytest.raises(FileError, match="single_file_indices"):
            read_expt(write(tmp_path, content))


def test_the_stated_path_of_a_frame_comes_before_one_beside_the_document(tmp_path: Path) -> None:
    (tmp_path / "run1").mkdir()
    for place in ("run1", "."):
        (tmp_path / place / "t_0007.cbf").touch()
    content = document(imageset=[{"__id__": "ImageSequence", "template": "run1/t_####.cbf"}])
    images = read_expt(write(tmp_path, content))[0].images
    assert images[0] == tmp_path / "run1" / "t_0007.cbf"
    (tmp_path / "run1" / "t_0007.cbf").unlink()
    assert read_expt(write(tmp_path, content))[0].images[0] == tmp_path / "t_0007.cbf"


def test_a_scan_without_a_goniometer_is_stills_at_no_angle(tmp_path: Path) -> None:
    content = document()
    content["experiment"][0].pop("goniometer")
    entry = read_expt(write(tmp_path, content))[0]
    assert entry.is_still
    assert entry.scan is not None
    assert (entry.scan.phi_start, entry.scan.oscillation, entry.scan.n_frames, entry.scan.first_image) == (0, 0, 3, 7)
    assert any("no goniometer: its frames are stills" in note for note in entry.notes)


def test_radiation_is_read_and_what_is_not_modelled_is_refused(tmp_path: Path) -> None:
    def entry(**changes: Any) -> Any:
        content = document()
        content["beam"][0] |= changes
        return read_expt(write(tmp_path, content))[0]

    assert (entry().radiation, entry(probe="electron").radiation) == (None, "electron")
    assert entry(probe="electron").sample.scattered == "electron"
    assert entry(wavelength=0.0251).sample.scattered == "electron"
    assert entry(wavelength=0.0251, probe="x-ray").sample.scattered == "x-ray"
    assert entry().sample.space_group == "P 43 21 2"
    with pytest.raises(FileError, match="'neutron' is not modelled"):
        entry(probe="neutron")
    with pytest.raises(FileError, match="time of flight"):
        entry(__id__="polychromatic")


def test_detectors_are_compared_by_value(tmp_path: Path) -> None:
    content = document()
    copies = [copy.deepcopy(content["detector"][0]) for _ in range(3)]
    copies[2]["panels"][0]["origin"] = [-3.0, 2.0, -99.0]
    content["detector"] = copies
    content["experiment"] = [content["experiment"][0] | {"detector": i} for i in range(3)]
    read = read_expt(write(tmp_path, content))
    assert equal_models(read, "detector") == {0: 0, 1: 0, 2: 2}
    assert equal_models(read, "beam") == {0: 0}
    assert differences(read[0].detector, read[1].detector) == ()
    assert differences(read[0].detector, read[2].detector) == (
        "panels[0].origin: (-3.0, 2.0, -100.0) and (-3.0, 2.0, -99.0)",
    )
    moved = replace(read[0].detector, panels=(replace(read[0].detector.panels[0], origin=(1.0, 2.0, -100.0)),))
    updates = ExptUpdates(detectors={i: moved for i, like in equal_models(read, "detector").items() if like == 0})
    out = read_expt(write_expt(tmp_path / "out.expt", read, updates))
    assert [entry.detector.panels[0].origin[0] for entry in out.entries] == [1.0, 1.0, -3.0]


class _Trap:
    """Opening a pickle of this would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickled_mask_is_refused_with_its_conversion_and_never_opened(tmp_path: Path, protocol: int) -> None:
    detector = read_expt(write(tmp_path, document()))[0].detector
    (tmp_path / "pixels.mask").write_bytes(pickle.dumps((_Trap(tmp_path / "trap"),), protocol))
    for read in (read_mask, read_pixel_map):
        with pytest.raises(FileError, match=r"pixels\.mask.*Python pickle.*dials\.python.*numpy\.savez\(\"pixels\.npz"):
            read(tmp_path / "pixels.mask", detector)
    assert not (tmp_path / "trap").exists()


def test_a_map_of_numbers_is_read_for_each_panel(tmp_path: Path) -> None:
    detector = read_expt(write(tmp_path, document()))[0].detector
    gain = np.linspace(0.9, 1.1, 24).reshape(4, 6)
    np.save(tmp_path / "g.npy", gain)
    np.testing.assert_array_equal(read_pixel_map(tmp_path / "g.npy", detector)[0], gain)
    gain[0, 0] = np.nan
    np.save(tmp_path / "g.npy", gain)
    with pytest.raises(DataError, match="1 of its pixels are NaN"):
        read_pixel_map(tmp_path / "g.npy", detector)
    np.save(tmp_path / "g.npy", gain[:3])
    with pytest.raises(DataError, match="3 × 6"):
        read_pixel_map(tmp_path / "g.npy", detector)


def test_lists_that_once_gave_wrong_numbers_give_the_right_ones() -> None:
    sensor = read_expt(shared("formats", "expt", "multi_sweep-experiments.json"))[0].detector.panels[0]
    assert (sensor.thickness, 1 / sensor.attenuation_length) == pytest.approx((0.32, 1.415352095561621))
    shots = read_expt(shared("formats", "expt", "SACLA-known_orientations.expt"))
    assert [entry.image_indices for entry in shots.entries] == [(0,), (1,), (2,), (3,)]
    many = read_expt(shared("formats", "expt", "vmxi_split_07602.expt"))[0].image_indices
    assert many == tuple(range(10434))
    lookup = read_expt(shared("formats", "expt", "experiments_with_lookup.json"))[0].pixel_files
    assert [path.name for path in (lookup.mask, lookup.gain, lookup.pedestal) if path] == [
        "lookup_mask.pickle",
        "lookup_gain.pickle",
        "lookup_pedestal.pickle",
    ]
    with pytest.raises(FileError, match="time of flight"):
        read_expt(shared("formats", "expt", "isis_tof_imported.expt"))
    offset = read_expt(shared("cases", "expt-keys-ignored", "offset_parallax.expt"))[0].detector.panels[0]
    assert (offset.thickness, offset.attenuation_length) == (0.32, pytest.approx(1 / 3.96))
    copies = read_expt(shared("cases", "identical-detectors", "start.expt"))
    assert equal_models(copies, "detector") == {0: 0, 1: 0, 2: 0}


def test_a_published_pickled_mask_is_refused_with_its_conversion() -> None:
    path = shared("formats", "mask", "mask_rayonix340mx_4x4.pickle.gz")
    detector = read_expt(shared("formats", "expt", "I23_P12M.expt"))[0].detector
    with pytest.raises(FileError, match=r"gzip\.open\(\"mask_rayonix340mx_4x4\.pickle\.gz"):
        read_mask(path, detector)
