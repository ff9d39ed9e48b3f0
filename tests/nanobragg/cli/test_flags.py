"""The flag table, its parser and its help."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time

import pytest

from nbtorch.nanobragg.cli.flags import FLAGS
from nbtorch.nanobragg.cli.nanobragg import main
from nbtorch.nanobragg.cli.parsing import BY_NAME, UsageError, help_text, parse
from nbtorch.nanobragg.resolve import Stated
from tests.helpers.command import split
from tests.helpers.data import ROOT

ORIGINAL = split("""
-hkl -mat -cell -misset -img -mask -sourcefile -dump -default_F -pixel -detpixels -detpixels_f -detpixels_x
-detpixels_s -detpixels_y -detsize -detsize_f -detsize_s -distance -close_distance -point_pixel -detector_rotx
-detector_roty -detector_rotz -twotheta -twotheta_axis -curved_det -detector_abs -detector_thick -detector_thicksteps
-thicksteps -mosflm -xds -adxv -denzo -dials -pivot -fdet_vector -sdet_vector -odet_vector -beam_vector -polar_vector
-spindle_axis -pix0_vector -pix0_vector_mm -Xbeam -Ybeam -Xclose -Yclose -ORGX -ORGY -lambda -wave -energy -dispersion
-dispsteps -divergence -hdivrange -vdivrange -hdivstep -vdivstep -hdivsteps -vdivsteps -divsteps -round_div -square_div
-polar -nopolar -Na -Nb -Nc -N -samplesize -sample_size -xtalsize -xtal_size -sample_thick -sample_x -sample_width
-sample_y -sample_height -sample_z -xtal_thick -xtal_x -xtal_width -xtal_y -xtal_height -xtal_z -width -height
-square_xtal -round_xtal -gauss_xtal -binary_spots -tophat_spots -fudge -mosaic -mosaici -mosaic_spread -mosaic_dom
-mosaic_domains -phi -osc -phistep -phisteps -dmin -oversample -oversample_thick -oversample_polar -oversample_omega
-roi -water -fluence -flux -exposure -beamsize -floatfile -floatimage -intfile -intimage -scale -adc -pgmfile -pgmimage
-pgmscale -nopgm -noisefile -noiseimage -nonoise -interpolate -nointerpolate -printout -printout_pixel -trace_pixel
-progress -noprogress -seed -mosaic_seed -misset_seed -density -MW -stol -4stol -Q -stolout
""")
OURS = split("""-device -dtype -backend -compat -exact_cell -exact_corrections -phi_midpoint -exact -gauss_hkl_xtal
-trace_all -h -help --help""")


@pytest.mark.parametrize("name", ORIGINAL + OURS)
def test_flag_exists(name: str) -> None:
    assert name in BY_NAME


def test_no_name_belongs_to_two_flags() -> None:
    names = [name for group in FLAGS.values() for flag in group for name in flag.names]
    assert sorted(names) == sorted(set(names))


def test_targets_are_the_fields_of_what_a_user_states() -> None:
    targets = {target for flag in BY_NAME.values() if not flag.ignored for target in flag.targets}
    assert targets == {field.name for field in dataclasses.fields(Stated)} - {"order"}


def test_help_shows_every_flag_with_unit_and_default_in_its_group() -> None:
    text = help_text(100)
    for title, flags in FLAGS.items():
        section = text[text.index(f"{title}:") :]
        for flag in flags:
            entry = section[section.index(f"  {'|'.join(flag.names)} ") :]
            for word in (*flag.values, flag.unit, flag.default):
                assert word in re.sub(r"\s+", " ", entry[:400]), (flag.names, word)


def test_help_needs_neither_torch_nor_numpy() -> None:
    script = "import sys; from nbtorch.nanobragg.cli.nanobragg import main; main(['-h']); print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    loaded = out.splitlines()[-1]
    assert "'nbtorch.nanobragg.cli.parsing'" in loaded
    assert "'torch'" not in loaded
    assert "'numpy'" not in loaded


def test_help_starts_within_three_tenths_of_a_second_of_processor_time() -> None:
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "nbtorch.nanobragg.cli.nanobragg", "-h"], cwd=ROOT, check=True, capture_output=True
    )
    after = os.times()
    # the processor's time, not the clock's: other tests run beside this one
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.3


@pytest.mark.parametrize(
    ("words", "target", "expected"),
    [
        ("-distance 120", "distance", 120.0),
        ("-detector_thick 450", "thickness", 0.45),
        ("-detector_abs 300", "attenuation", 0.3),
        ("-detector_abs inf", "attenuation", float("inf")),
        ("-detector_abs 0", "attenuation", float("inf")),
        ("-water 5", "water", 0.005),
        ("-energy 12398.42", "wavelength", 1.0),
        ("-energy 11000 -lambda 2", "wavelength", 2.0),
        ("-wave 1.5", "wavelength", 1.5),
        ("-pix0_vector 0.1 -0.02 3e-3", "pix0", (100.0, -20.0, 3.0)),
        ("-pix0_vector_mm 100 -20 3", "pix0", (100.0, -20.0, 3.0)),
        ("-misset -1 -2 -3", "misset", (-1.0, -2.0, -3.0)),
        ("-misset random", "misset", "random"),
        ("-N 5 -Na 3", "n_a", 3.0),
        ("-N 5 -Na 3", "n_b", 5.0),
        ("-Na 3 -N 5", "n_a", 5.0),
        ("-divergence 2", "vdiv_range", 2.0),
        ("-square_div", "round_divergence", False),
        ("-binary_spots", "shape", "tophat"),
        ("-gauss_hkl_xtal", "shape", "gauss_hkl"),
        ("-interpolate -nointerpolate", "interpolate", False),
        ("-twotheta_axis 0 1 0", "twotheta_axis", (0.0, 1.0, 0.0)),
        ("-floatfile -intfile x.img", "float_file", "floatimage.bin"),
        ("-floatimage a.bin", "float_file", "a.bin"),
        ("-noisefile", "noise_file", "noiseimage.img"),
        ("-pgmfile", "pgm_file", "image.pgm"),
        ("-seed -77", "seed", -77),
        ("-detpixels 1e3", "pixels_slow", 1000),
        ("-roi 1 2 3 4", "roi", (1, 2, 3, 4)),
        ("-exact", "phi_midpoint", True),
    ],
)
def test_value_reaches_its_target_in_public_units(words: str, target: str, expected: object) -> None:
    value = parse(split(words)).values[target]
    assert value == (pytest.approx(expected) if isinstance(expected, float | tuple) else expected)


def test_names_match_exactly_and_not_by_substring() -> None:
    # the original takes -twotheta_axis for -twotheta as well
    assert "twotheta" not in parse(split("-twotheta_axis 0 1 0")).values


def test_the_order_of_flags_is_kept() -> None:
    assert parse(split("-Xbeam 1 -twotheta 4 -Xbeam 2")).order == ("x_beam", "twotheta", "x_beam")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-distnace 100", "-distance <length> (mm)"),
        ("-hdiv 3", "-hdiv"),
        ("-detpixel 100", "-detpixels"),
        ("-cell 10 20 30", "needs 6 values, 3 given"),
        ("-cell 10 20 30 90 90 ninety", "'ninety' is not a value"),
        ("-distance", "needs 1 value, 0 given"),
        ("-distance -pixel 0.1", "-pixel follows too soon"),
        ("-hkl -lambda 1", "-lambda follows too soon"),
        ("-detpixels 10.5", "'10.5' is not a value"),
        ("-distance nan", "'nan' is not a value"),
        ("-energy 0", "'0' is not a value"),
        ("-pivot middle", "'middle' is not a value"),
        ("-compat xds", "'xds' is not a value"),
        ("-cell 1 2 3 4 5 6 7", "(after -cell)"),
        ("-lambda 1 stray", "stray (after -lambda)"),
    ],
)
def test_usage_error_names_the_flag_and_exits_with_2(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError):
        parse(split(words))
    assert main(split(words)) == 2
    assert said in capsys.readouterr().err


def test_a_reader_that_closes_early_is_no_error() -> None:
    command = f"{sys.executable} -m nbtorch.nanobragg.cli.nanobragg -h | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage:")


def test_no_flags_at_all_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "nanoBragg -h" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["-stol f", "-4stol f", "-Q f", "-stolout f", "-density 1.2", "-MW 18"])
def test_ignored_flag_warns_and_changes_nothing(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    parsed = parse(split(words))
    assert parsed.ignored == (split(words)[0],)
    assert not parsed.values
    argv = split("-cell 50 50 50 90 90 90 -default_F 1 -detpixels 4 -oversample 1")
    assert main([*split(words), *argv]) == 0
    assert f"{split(words)[0]} has no effect" in capsys.readouterr().err


def test_help_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.process_time()
    for name in ("-h", "-help", "--help"):
        assert main(["-cell", "1", "2", "3", "4", "5", "6", name]) == 0
        assert "usage: nanoBragg" in capsys.readouterr().out
    assert time.process_time() - start < 1
