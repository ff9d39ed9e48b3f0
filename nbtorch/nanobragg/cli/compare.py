"""The command ``nb-compare``: one scene by two programs, pixel by pixel."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbtorch.nanobragg.cli.pair import (
    BELOW,
    EXIT_CODES,
    FILES,
    GOOD,
    SHAPES,
    Pair,
    Parser,
    add_programs,
    check_folder,
    dumps,
    exit_code,
    pair_of,
    write_texts,
)
from nbtorch.nanobragg.cli.parsing import parse

if TYPE_CHECKING:
    from nbtorch.nanobragg.compare.images import Image, ImageMetrics
    from nbtorch.nanobragg.compare.programs import Program, Run

TOOL = "nb-compare"
THRESHOLD = 0.999999


def build_parser() -> Parser:
    """The options of nb-compare."""
    parser = Parser(
        prog=TOOL,
        usage="nb-compare [options] -- FLAGS | nb-compare --verify DIR",
        description="Give both programs the same nanoBragg FLAGS and compare their images.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--outdir", type=Path, help="where results go [outputs/nb-compare-DATE]")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that holds files already")
    parser.add_argument(
        "--roi",
        type=int,
        nargs=4,
        metavar=("XMIN", "XMAX", "YMIN", "YMAX"),
        help="compare these pixels only, bounds included, fast then slow; both programs still render the frame",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=THRESHOLD,
        help="least correlation; the sums' ratio must be as close to 1 [%(default)s]",
    )
    parser.add_argument(
        "--resample", action="store_true", help="of two shapes, bring the Python's image to the C's, sharing by area"
    )
    parser.add_argument("--png-scale", type=float, help="grey levels per photon in the previews [250/(5·rmsd)]")
    parser.add_argument("--save-diff", action="store_true", help="write the difference: PNG and .npy")
    parser.add_argument("--py-bin", metavar="PATH", help="the Python program [nbtorch's nanoBragg]")
    parser.add_argument("--verify", type=Path, metavar="DIR", help="check the sums of an evidence bundle, and stop")
    add_programs(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    parser = build_parser()
    options, flags = parser.parse_args(words[:at]), words[at + 1 :]
    if options.verify is not None:
        return exit_code(TOOL, lambda: verify(options.verify))
    if not flags:
        parser.error("give nanoBragg's flags after --")
    if not -1 <= options.threshold <= 1:
        parser.error("--threshold is a correlation, -1 … 1")
    if options.png_scale is not None and not options.png_scale > 0:
        parser.error("--png-scale must be more than zero")
    return exit_code(TOOL, lambda: compare(options, flags))


def verify(folder: Path) -> int:
    """Check a bundle and print what is wrong with it."""
    from nbtorch.nanobragg.compare.bundle import verify as wrong_files

    wrong = wrong_files(folder)
    for line in wrong:
        print(line)
    print(f"{folder}: {'as it was sealed' if not wrong else 'not as it was sealed'}")
    return FILES if wrong else GOOD


@dataclass(frozen=True, eq=False)
class Outcome:
    """Both runs and images [slow, fast]; ``metrics`` is None when the shapes differ. ``py`` may be resampled."""

    pair: Pair
    programs: tuple[Program, Program]
    runs: tuple[Run, Run]
    shapes: tuple[tuple[int, int], tuple[int, int]]
    py: Image
    c: Image
    metrics: ImageMetrics | None


def compare(options: argparse.Namespace, flags: Sequence[str]) -> int:
    """Run both programs, write and print the comparison. Raises NbtorchError."""
    outdir = options.outdir or Path("outputs", f"{TOOL}-{time.strftime('%Y%m%dT%H%M%S')}")
    check_folder(outdir, overwrite=options.overwrite)
    outcome = run_both(options, pair_of(flags, options.py_flags, options.c_flags))
    code = SHAPES
    if outcome.metrics is not None:
        code = GOOD if outcome.metrics.meets(options.threshold) else BELOW
    summary = summary_of(outcome, options, code)
    write_texts(outdir, {"summary.json": dumps(summary)})
    write_pictures(outcome, options, outdir)
    for line in printed(outcome, summary):
        print(line)
    print(f"written: {outdir}")
    if options.bundle:
        print(f"bundle: {write_evidence(outcome, summary, outdir)}")
    return code


def run_both(options: argparse.Namespace, pair: Pair) -> Outcome:
    """Run one program after the other, each alone on the machine, and compare their images."""
    import numpy as np

    from nbtorch.nanobragg.compare.images import compare_images, resample
    from nbtorch.nanobragg.compare.programs import c_program, python_program, run_image

    programs = python_program(options.py_bin), c_program(options.c_bin)
    with tempfile.TemporaryDirectory() as folder:
        py_run, py = run_image(programs[0], pair.py, Path(folder, "py"))
        c_run, c = run_image(programs[1], pair.c, Path(folder, "c"))
    first, second = py.astype(np.float64), c.astype(np.float64)
    shapes = ((first.shape[0], first.shape[1]), (second.shape[0], second.shape[1]))
    if shapes[0] != shapes[1] and options.resample:
        first = resample(first, shapes[1])
    same = first.shape == second.shape
    roi = None if options.roi is None else tuple(options.roi)
    metrics = compare_images(first, second, roi) if same else None
    return Outcome(pair, programs, (py_run, c_run), shapes, first, second, metrics)


def summary_of(outcome: Outcome, options: argparse.Namespace, code: int) -> dict[str, Any]:
    """What summary.json holds."""
    verdicts = {GOOD: "agree", BELOW: "below threshold", SHAPES: "shapes differ"}
    return {
        "verdict": verdicts[code],
        "exit_code": code,
        "threshold": options.threshold,
        "roi": options.roi,
        "commands": {"py": outcome.runs[0].command, "c": outcome.runs[1].command},
        "seconds": {"py": outcome.runs[0].seconds, "c": outcome.runs[1].seconds},
        "shapes": {"py": outcome.shapes[0], "c": outcome.shapes[1]},
        "resampled": bool(options.resample) and outcome.shapes[0] != outcome.shapes[1],
        "metrics": None if outcome.metrics is None else asdict(outcome.metrics),
        "notes": outcome.pair.notes,
    }


def write_pictures(outcome: Outcome, options: argparse.Namespace, outdir: Path) -> None:
    """py.png and c.png on one scale; with --save-diff difference.png and difference.npy."""
    import numpy as np

    from nbtorch.io.atomic import atomic_path
    from nbtorch.nanobragg.compare.images import difference
    from nbtorch.nanobragg.compare.previews import grey, preview_scale, signed_colours, write_png

    scale = options.png_scale or preview_scale(outcome.c)
    write_png(outdir / "py.png", grey(outcome.py, scale))
    write_png(outdir / "c.png", grey(outcome.c, scale))
    if options.save_diff and outcome.metrics is not None:
        apart = difference(outcome.py, outcome.c)
        write_png(outdir / "difference.png", signed_colours(apart))
        with atomic_path(outdir / "difference.npy", overwrite=True) as path, path.open("wb") as stream:
            np.save(stream, apart, allow_pickle=False)


def printed(outcome: Outcome, summary: dict[str, Any]) -> list[str]:
    """The comparison in lines for people."""
    lines = [f"note: {note}" for note in outcome.pair.notes]
    for program, run in zip(outcome.programs, outcome.runs, strict=True):
        lines.append(f"{program.name}: {run.seconds:.2f} s with its start: {shlex.join(run.command)}")
    metrics = outcome.metrics
    if metrics is None:
        (py_slow, py_fast), (c_slow, c_fast) = outcome.shapes
        return [
            *lines,
            f"shapes differ: {py_fast} x {py_slow} and {c_fast} x {c_slow} pixels; --resample compares them",
        ]
    pixel = "pixel (fast, slow) = {}"
    return [
        *lines,
        f"correlation: {metrics.correlation:.12g}",
        f"MSE: {metrics.mse:.6g}  RMSE: {metrics.rmse:.6g}",
        f"largest difference: {metrics.largest_difference:.6g} at {pixel.format(metrics.largest_difference_pixel)}",
        f"sums: {metrics.sum_first:.9g} {metrics.sum_second:.9g}  ratio - 1: {metrics.sum_ratio - 1:.3g}",
        f"largest relative difference above {metrics.floor:.3g} photons: {metrics.largest_relative:.3g} "
        f"at {pixel.format(metrics.largest_relative_pixel)}",
        f"pixels outside 2e-6 of themselves + 1e-7 of the maximum: {metrics.outside_parity} of {metrics.pixels} "
        f"(worst {metrics.worst_of_parity:.3g} of it)",
        f"verdict: {summary['verdict']} (threshold {summary['threshold']:g})",
    ]


def write_evidence(outcome: Outcome, summary: dict[str, Any], outdir: Path) -> Path:
    """The evidence bundle of this comparison."""
    from nbtorch.nanobragg.compare.bundle import Evidence, digest, write_bundle
    from nbtorch.nanobragg.compare.trace_report import plain

    values = parse(outcome.pair.py).values
    lines = ["# nb-compare", "", f"Verdict: {summary['verdict']}.", "", "```", *printed(outcome, summary), "```"]
    evidence = Evidence(
        tool=TOOL,
        commands=[run.command for run in outcome.runs],
        device=values.get("device", "cpu"),
        dtype=values.get("dtype", "float64"),
        metrics=plain(summary["metrics"] or {"shapes": summary["shapes"]}),
        summary=lines,
        metadata={
            "seconds": summary["seconds"],
            "exit_code": summary["exit_code"],
            "c_program_sha256": digest(Path(outcome.programs[1].command[0])),
            "inputs_sha256": {path.name: digest(path) for path in outcome.pair.inputs},
            "notes": list(outcome.pair.notes),
        },
    )
    return write_bundle(evidence, outdir, Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
