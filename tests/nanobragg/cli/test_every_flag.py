"""An option that does nothing is a bug: each flag changes what is written or printed, or is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from nbtorch.io.smv import read_smv
from nbtorch.nanobragg.cli.flags import FLAGS
from nbtorch.nanobragg.cli.nanobragg import main
from tests.helpers.command import split
from tests.helpers.data import golden

INPUTS = golden("inputs")
BASE = f"""-cell 74 86 98 90 97 90 -hkl {INPUTS}/dense.hkl -default_F 3 -lambda 3.6 -N 4 -misset 12 23 34 -oversample 1
-detpixels 24 -pixel 1.5 -distance 110 -nointerpolate -seed 5 -adc 40"""

#: name → (words, words of both commands besides BASE). The image or the header must differ between the two.
IMAGE: dict[str, tuple[str, str]] = {
    "-hkl": (f"-hkl {INPUTS}/sparse.hkl", ""),
    "-mat": (f"-mat {INPUTS}/A.mat", ""),
    "-img": (f"-img {INPUTS}/mask.img", ""),
    "-sourcefile": (f"-sourcefile {INPUTS}/sources.txt", ""),
    "-cell": ("-cell 70 86 98 90 97 90", ""),
    "-misset": ("-misset 12 23 35", ""),
    "-misset_seed": ("-misset_seed 9", "-misset random"),
    "-default_F": ("-default_F 50", f"-hkl {INPUTS}/sparse.hkl"),
    "-N": ("-N 5", ""),
    "-Na": ("-Na 5", ""),
    "-Nb": ("-Nb 5", ""),
    "-Nc": ("-Nc 5", ""),
    "-samplesize": ("-samplesize 0.00006", ""),
    "-sample_thick": ("-sample_thick 0.00006", ""),
    "-sample_width": ("-sample_width 0.00006", ""),
    "-sample_height": ("-sample_height 0.00006", ""),
    "-square_xtal": ("-square_xtal", "-round_xtal"),
    "-round_xtal": ("-round_xtal", ""),
    "-gauss_xtal": ("-gauss_xtal", ""),
    "-gauss_hkl_xtal": ("-gauss_hkl_xtal", ""),
    "-binary_spots": ("-binary_spots -fudge 0.1", ""),
    "-fudge": ("-fudge 0.5", "-round_xtal"),
    "-mosaic": ("-mosaic 2", ""),
    "-mosaic_dom": ("-mosaic_dom 4", "-mosaic 2"),
    "-mosaic_seed": ("-mosaic_seed 9", "-mosaic 2"),
    "-phi": ("-phi 3", ""),
    "-osc": ("-osc 3", ""),
    "-phistep": ("-phistep 1", "-osc 3"),
    "-phisteps": ("-phisteps 4", "-osc 3"),
    "-spindle_axis": ("-spindle_axis 1 1 0", "-phi 20 -polar_vector 0 0 1"),
    "-lambda": ("-lambda 3.7", ""),
    "-energy": ("-energy 4000", ""),
    "-dispersion": ("-dispersion 2", ""),
    "-dispsteps": ("-dispsteps 4", "-dispersion 2"),
    "-divergence": ("-divergence 20", ""),
    "-hdivrange": ("-hdivrange 20", ""),
    "-vdivrange": ("-vdivrange 20", ""),
    "-hdivstep": ("-hdivstep 5", "-hdivrange 20"),
    "-vdivstep": ("-vdivstep 5", "-vdivrange 20"),
    "-hdivsteps": ("-hdivsteps 5", "-hdivrange 20"),
    "-vdivsteps": ("-vdivsteps 5", "-vdivrange 20"),
    "-divsteps": ("-divsteps 5", "-divergence 20"),
    "-round_div": ("-round_div", "-divergence 20 -divsteps 5 -square_div"),
    "-square_div": ("-square_div", "-divergence 20 -divsteps 5"),
    "-polar": ("-polar 0.9", ""),
    "-nopolar": ("-nopolar", ""),
    "-fluence": ("-fluence 1e28", ""),
    "-flux": ("-flux 1e12", ""),
    "-exposure": ("-exposure 3", "-flux 1e12"),
    "-beamsize": ("-beamsize 0.3", "-flux 1e12"),
    "-water": ("-water 5", "-fluence 1e24"),
    "-pixel": ("-pixel 1.4", ""),
    "-detpixels": ("-detpixels 26", ""),
    "-detpixels_f": ("-detpixels_f 26", ""),
    "-detpixels_s": ("-detpixels_s 26", ""),
    "-distance": ("-distance 120", ""),
    "-close_distance": ("-close_distance 120", ""),
    "-point_pixel": ("-point_pixel", ""),
    "-detector_rotx": ("-detector_rotx 5", ""),
    "-detector_roty": ("-detector_roty 5", ""),
    "-detector_rotz": ("-detector_rotz 5", ""),
    "-twotheta": ("-twotheta 5", ""),
    "-twotheta_axis": ("-twotheta_axis 0 1 1", "-twotheta 5 -polar_vector 0 0 1"),
    "-curved_det": ("-curved_det", ""),
    "-detector_abs": ("-detector_abs 300", "-detector_thick 400"),
    "-detector_thick": ("-detector_thick 400", "-detector_abs 300"),
    "-detector_thicksteps": ("-detector_thicksteps 4", "-detector_thick 400 -detector_abs 300"),
    "-mosflm": ("-mosflm", "-xds"),
    "-xds": ("-xds", ""),
    "-adxv": ("-adxv", ""),
    "-denzo": ("-denzo -Xbeam 17 -Ybeam 18", "-Xbeam 17 -Ybeam 18"),
    "-dials": ("-dials", ""),
    "-pivot": ("-pivot sample", "-twotheta 5"),
    "-Xbeam": ("-Xbeam 17", ""),
    "-Ybeam": ("-Ybeam 17", ""),
    "-Xclose": ("-Xclose 17", "-dials -pivot beam"),
    "-Yclose": ("-Yclose 17", "-dials -pivot beam"),
    "-ORGX": ("-ORGX 10", "-xds"),
    "-ORGY": ("-ORGY 10", "-xds"),
    "-fdet_vector": ("-fdet_vector 0 0.1 1", "-polar_vector 0 0 1"),
    "-sdet_vector": ("-sdet_vector 0 -1 0.1", "-polar_vector 0 0 1"),
    "-odet_vector": ("-odet_vector 1 0 0", "-sdet_vector 0 -1 0.1 -odet_vector 0.8 0.6 0"),
    "-beam_vector": ("-beam_vector 1 0.02 0", "-polar_vector 0 0 1"),
    "-polar_vector": ("-polar_vector 0 1 0", "-polar 0.9 -beam_vector 1 0 0"),
    "-pix0_vector": ("-pix0_vector 0.11 0.015 -0.017", "-polar_vector 0 0 1"),
    "-pix0_vector_mm": ("-pix0_vector_mm 110 15 -17", "-polar_vector 0 0 1"),
    "-oversample": ("-oversample 2", ""),
    "-oversample_thick": ("-oversample_thick", "-detector_thick 400 -detector_abs 300"),
    "-oversample_polar": ("-oversample_polar", "-phi 1 -osc 1"),
    "-oversample_omega": ("-oversample_omega", "-phi 1 -osc 1"),
    "-interpolate": ("-interpolate", ""),
    "-nointerpolate": ("-nointerpolate", "-interpolate"),
    "-dmin": ("-dmin 20", ""),
    "-roi": ("-roi 2 10 3 11", ""),
    "-mask": (f"-mask {INPUTS}/mask.img", "-detpixels 80 -pixel 0.5"),
    "-exact_cell": ("-exact_cell", "-cell 74 86 98 82 97 104"),
    "-exact_corrections": ("-exact_corrections", "-oversample 2"),
    "-phi_midpoint": ("-phi_midpoint", "-phi 1 -osc 1"),
    "-exact": ("-exact", "-phi 1 -osc 1"),
    "-compat": ("-compat nanobragg", "-osc 2 -phisteps 3"),
    "-dtype": ("-dtype float32", "-N 30"),
}
#: What changes the other outputs: name → (words, words of both).
INTEGER = {"-scale": ("-scale 1e-3", ""), "-adc": ("-adc 10", ""), "-seed": ("-seed 6", "")}
#: Flags with a test of their own: in this file, or where said.
ELSEWHERE = {
    *("-detsize", "-detsize_f", "-detsize_s", "-dump", "-floatfile", "-intfile", "-pgmfile", "-pgmscale", "-nopgm"),
    *("-noisefile", "-nonoise", "-printout", "-printout_pixel", "-progress", "-noprogress", "-device", "-backend"),
    *("-trace_pixel", "-trace_all"),  # tests/parity/test_golden_traces.py
    *("-h", "-stol", "-4stol", "-Q", "-stolout", "-density", "-MW"),  # test_flags.py
}


@dataclass(frozen=True, eq=False)
class Written:
    image: bytes
    header: dict[str, str]
    integer: bytes
    noise: bytes


def run(folder: Path, words: str) -> Written:
    """What a command writes."""
    paths = [folder / name for name in ("f.bin", "i.img", "n.img")]
    names = [str(path) for path in paths]
    outputs = ["-floatfile", names[0], "-intfile", names[1], "-noisefile", names[2]]
    assert main([*split(BASE), *split(words), *outputs]) == 0, words
    integer, noise = read_smv(paths[1]), read_smv(paths[2])
    return Written(paths[0].read_bytes(), dict(integer.header), integer.counts.tobytes(), noise.counts.tobytes())


def test_every_flag_is_listed_here() -> None:
    listed = {*IMAGE, *INTEGER, *ELSEWHERE}
    unlisted = [flag.names for group in FLAGS.values() for flag in group if not listed & set(flag.names)]
    assert not unlisted


@pytest.mark.parametrize("name", IMAGE)
def test_flag_changes_the_image(name: str, tmp_path: Path) -> None:
    words, both = IMAGE[name]
    without, with_flag = run(tmp_path, both), run(tmp_path, f"{both} {words}")
    assert without.image != with_flag.image


@pytest.mark.parametrize("name", ["-scale", "-adc"])
def test_flag_changes_the_integer_image_alone(name: str, tmp_path: Path) -> None:
    words, both = INTEGER[name]
    without, with_flag = run(tmp_path, both), run(tmp_path, f"{both} {words}")
    assert without.image == with_flag.image
    assert without.integer != with_flag.integer


def test_seed_changes_the_noise_image_alone(tmp_path: Path) -> None:
    without, with_flag = run(tmp_path, ""), run(tmp_path, "-seed 6")
    assert without.integer == with_flag.integer
    assert without.noise != with_flag.noise


def test_synonyms_do_the_same(tmp_path: Path) -> None:
    for group in FLAGS.values():
        for flag in group:
            first = flag.names[0]
            if len(flag.names) == 1 or first not in IMAGE:
                continue
            words, both = IMAGE[first]
            expected = run(tmp_path, f"{both} {words}").image
            for other in flag.names[1:]:
                assert run(tmp_path, f"{both} {words.replace(first, other, 1)}").image == expected, other


def pixels(folder: Path, words: str) -> tuple[int, int]:
    """(fast, slow) pixels of a command with its own detector size."""
    argv = split("-cell 50 50 50 90 90 90 -default_F 1 -oversample 1 -intfile")
    assert main([*argv, str(folder / "i.img"), *split(words)]) == 0
    slow, fast = read_smv(folder / "i.img").counts.shape
    return fast, slow


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-detsize 10", (100, 100)),
        ("-detsize 10 -pixel 0.3", (33, 33)),  # ceil(33.33 − ½)
        ("-detsize_f 5 -detsize_s 2", (50, 20)),
        ("-pixel 2", (51, 51)),  # 102.4 mm is the default
        ("-detsize 10 -detpixels_x 7", (7, 100)),
    ],
)
def test_detector_size_in_mm(words: str, expected: tuple[int, int], tmp_path: Path) -> None:
    assert pixels(tmp_path, words) == expected


SMALL = split("-cell 50 50 50 90 90 90 -default_F 1 -oversample 1 -detpixels 8 -detpixels_x 10")


def test_nothing_is_written_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(SMALL) == 0
    assert list(tmp_path.iterdir()) == []
    assert "no image is written" in capsys.readouterr().out


def test_an_output_without_a_name_takes_the_originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "-floatfile", "-intfile", "-pgmfile", "-noisefile"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "floatimage.bin",
        "image.pgm",
        "intimage.img",
        "noiseimage.img",
    ]


def test_preview_holds_the_scaled_image_and_its_scale(tmp_path: Path) -> None:
    assert (
        main([*SMALL, "-floatfile", str(tmp_path / "f.bin"), "-pgmfile", str(tmp_path / "p.pgm"), "-pgmscale", "3"])
        == 0
    )
    content = (tmp_path / "p.pgm").read_bytes()
    head = b"P5\n10 8\n# pixels scaled by 3\n255\n"
    assert content.startswith(head)
    image = np.fromfile(tmp_path / "f.bin", "<f4")
    expected = np.clip(np.floor(image.astype(float) * 3), 0, 255)
    assert (np.frombuffer(content[len(head) :], np.uint8) == expected).all()


def test_nopgm_and_nonoise_win_over_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*SMALL, "-pgmfile", str(tmp_path / "p.pgm"), "-nopgm", "-noisefile", str(tmp_path / "n.img"), "-nonoise"]
    assert main(argv) == 0
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out.count("is not written") == 2


def test_dump_is_written_with_hkl_and_read_without(tmp_path: Path) -> None:
    dump, first, second = (str(tmp_path / name) for name in ("F.bin", "a.bin", "b.bin"))
    both = split("-cell 74 86 98 82 97 104 -oversample 1 -detpixels 20 -pixel 2 -N 4 -nointerpolate -dump")
    assert main([*both, dump, "-hkl", f"{INPUTS}/sparse.hkl", "-floatfile", first]) == 0
    assert main([*both, dump, "-floatfile", second]) == 0
    assert Path(first).read_bytes() == Path(second).read_bytes()
    assert np.fromfile(first, "<f4").max() > 0


def test_a_dump_in_the_working_folder_serves_without_hkl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = split("-cell 74 86 98 82 97 104 -oversample 1 -detpixels 20 -pixel 2 -N 4")
    assert main([*argv, "-hkl", f"{INPUTS}/sparse.hkl", "-dump", "Fdump.bin"]) == 0
    capsys.readouterr()
    assert main(argv) == 0
    assert "structure factors from Fdump.bin" in capsys.readouterr().out


def test_no_structure_factors_at_all_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(split("-cell 50 50 50 90 90 90")) == 2
    assert "-hkl or -default_F" in capsys.readouterr().err


def test_printout_prints_the_pixels_of_the_roi(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "-printout", "-roi", "2", "4", "3", "3"]) == 0
    lines = [line.split()[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("pixel ")]
    assert lines == [["2", "3"], ["3", "3"], ["4", "3"]]


def test_printout_pixel_prints_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "-printout_pixel", "9", "7"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pixel ")]
    assert len(lines) == 1
    assert lines[0].startswith("pixel 9 7 ")
    assert main([*SMALL, "-printout_pixel", "7", "9"]) == 2


def test_an_output_may_not_replace_an_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.hkl"
    table.write_text("1 1 1 5\n")
    assert main([*SMALL, "-hkl", str(table), "-floatfile", str(table)]) == 2
    assert table.read_text() == "1 1 1 5\n"
    assert "also an input" in capsys.readouterr().err


def test_a_missing_file_exits_with_1_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "-hkl", "absent.hkl"]) == 1
    assert "absent.hkl" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["-device nonsense", "-device meta9:x", "-device meta"])
def test_an_unknown_device_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, *split(words)]) == 2
    assert "cannot be used here" in capsys.readouterr().err


def test_both_backends_give_the_same_image(tmp_path: Path) -> None:
    written = (run(tmp_path, f"-backend {backend}").image for backend in ("reference", "auto"))
    images = [np.frombuffer(image, "<f4").astype(float) for image in written]
    np.testing.assert_allclose(images[0], images[1], rtol=1e-6, atol=1e-7 * images[0].max())


@pytest.mark.parametrize(("words", "shown"), [("", True), ("-noprogress", False), ("-progress", True)])
def test_progress_shows_on_a_terminal_only(
    words: str, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*SMALL, *split(words)]
    assert main(argv) == 0
    assert "% done" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert main(argv) == 0
    assert ("100% done" in capsys.readouterr().err) == shown
