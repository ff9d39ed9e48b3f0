"""The command ``nb-trace``: one pixel by two programs, factor by factor."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbtorch.nanobragg.cli.pair import (
    BELOW,
    EXIT_CODES,
    GOOD,
    Pair,
    Parser,
    add_programs,
    check_folder,
    dumps,
    exit_code,
    pair_of,
    split_words,
    write_texts,
)
from nbtorch.nanobragg.cli.parsing import UsageError, parse

if TYPE_CHECKING:
    from nbtorch.nanobragg.compare.programs import Program
    from nbtorch.nanobragg.compare.reasons import Facts, Side
    from nbtorch.nanobragg.compare.trace_report import TraceReport
    from nbtorch.nanobragg.resolve import Resolved

TOOL = "nb-trace"
MAX_TERMS = 20_000  # of one pixel; -trace_all prints 18 lines for each


def build_parser() -> Parser:
    """The options of nb-trace."""
    parser = Parser(
        prog=TOOL,
        description="Trace one pixel through both programs and find the first factor at which they part.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--case", required=True, metavar="FLAGS", help="nanoBragg's flags, in one word")
    parser.add_argument("--pixel", required=True, type=int, nargs=2, metavar=("S", "F"), help="slow, then fast")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where results go")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that holds files already")
    parser.add_argument("--device", help="of the Python: cpu, cuda, cuda:1")
    parser.add_argument("--dtype", choices=("float64", "float32"), help="of the Python")
    parser.add_argument("--emit-table", action="store_true", help="write comparison.csv too")
    parser.add_argument(
        "--full-frame",
        action="store_true",
        help="render every pixel, not this one alone: an original treats a thread's first pixel apart at phi 0",
    )
    add_programs(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser().parse_args(argv)
    return exit_code(TOOL, lambda: trace(options))


@dataclass(frozen=True)
class Told:
    """What a program printed, and the words it was given. ``lacks``: why its steps are not listed, if they are not."""

    words: tuple[str, ...]
    out: str
    lacks: str = ""


def trace(options: argparse.Namespace) -> int:
    """Trace both programs, write and print the comparison. Raises NbtorchError."""
    check_folder(options.out, overwrite=options.overwrite)
    from nbtorch.nanobragg.compare.programs import c_program

    pair = pair_of(split_words(options.case, "--case"), options.py_flags, options.c_flags)
    program = c_program(options.c_bin)
    py_words, c_words = traced_words(options, pair)
    facts, terms = facts_of(options, pair, program)
    listed = terms <= MAX_TERMS
    py = trace_python(py_words, listed)
    c = trace_c(program, c_words, listed)
    report, texts = report_of(options, facts, py, c)
    texts |= {"trace_py.log": py.out, "trace_c.log": c.out}
    write_texts(options.out, texts)
    for line in (*(f"note: {note}" for note in pair.notes), *verdict_lines(report), f"written: {options.out}"):
        print(line)
    if options.bundle:
        print(f"bundle: {write_evidence(options, report, facts, pair, program)}")
    return GOOD if report.first is None else BELOW


def traced_words(options: argparse.Namespace, pair: Pair) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words for each program, with the pixel to trace, which is all that is rendered but with --full-frame."""
    slow, fast = (str(number) for number in options.pixel)
    pixel = ["-trace_pixel", slow, fast, *([] if options.full_frame else ["-roi", fast, fast, slow, slow])]
    return (*pair.py, *_where(options), *pixel), (*pair.c, *pixel)


def _where(options: argparse.Namespace) -> list[str]:
    """Where and how precisely the Python computes."""
    given = (("-device", options.device), ("-dtype", options.dtype))
    return [word for name, value in given if value is not None for word in (name, value)]


def facts_of(options: argparse.Namespace, pair: Pair, program: Program) -> tuple[Facts, int]:
    """What may explain a divergence, and how many terms the pixel is summed from.

    Raises UsageError for a pixel outside the detector.
    """
    from nbtorch.nanobragg.cli.simulate import prepare
    from nbtorch.nanobragg.compare.reasons import Facts

    parsed = parse((*pair.py, *_where(options), "-roi", "0", "0", "0", "0"))  # of any size: one pixel is cheap
    resolved = prepare(parsed).resolved
    slow, fast = options.pixel
    n_fast, n_slow = resolved.placement.pixels
    if not (0 <= slow < n_slow and 0 <= fast < n_fast):
        raise UsageError(f"--pixel {slow} {fast}", "it lies outside the detector", "Give slow, then fast")
    said, told = parsed.values, parse(pair.c).values
    cell = resolved.crystal.cell
    facts = Facts(
        py=_side("Python", said),
        c=_side("C", told, original=not program.shipped),
        phis=spindle_angles(resolved),
        triclinic=cell[3:5] != (90.0, 90.0),
        origin_given="pix0" in said or "pix0" in told,
        pivot_given="pivot" in said or "pivot" in told,
        tricubic=resolved.render.interpolation == "tricubic",
        foreign=not program.shipped,
        twotheta_axis="twotheta_axis" in said,
        dtype=said.get("dtype", "float64"),
        only_py=pair.only_py,
        only_c=pair.only_c,
    )
    samples = resolved.detector.layers * (resolved.render.oversample or 1) ** 2
    return facts, samples * len(resolved.beam.sources) * len(facts.phis) * resolved.crystal.mosaic.domains


def _side(name: str, values: Mapping[str, Any], *, original: bool = False) -> Side:
    from nbtorch.nanobragg.compare.reasons import Side

    return Side(
        name,
        original=original or values.get("compat") == "nanobragg",
        exact_cell=bool(values.get("exact_cell")),
        exact_corrections=bool(values.get("exact_corrections")),
        phi_midpoint=bool(values.get("phi_midpoint")),
    )


def spindle_angles(resolved: Resolved) -> tuple[float, ...]:
    """The angle (degrees) of every spindle step."""
    exposure = resolved.exposure
    offset = 0.5 if exposure.sampling == "midpoint" else 0.0
    step = exposure.oscillation / exposure.steps
    return tuple(exposure.phi_start + (index + offset) * step for index in range(exposure.steps))


def trace_python(words: Sequence[str], listed: bool) -> Told:
    """Run nbtorch's command in this process. Raises RunnerError when it fails."""
    from nbtorch.nanobragg.cli import nanobragg
    from nbtorch.nanobragg.compare.programs import RunnerError

    out, err = io.StringIO(), io.StringIO()
    words = (*words, *(["-trace_all"] if listed else []))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = nanobragg.main(words)
    if code != 0:
        said = err.getvalue().strip().rstrip(".") or "it says nothing"
        raise RunnerError("the Python program", f"exit code {code}: {said}", "Change the flags")
    lacks = "" if listed else f"Steps are not listed: the pixel has more than {MAX_TERMS} terms."
    return Told(tuple(words), out.getvalue(), lacks)


def trace_c(program: Program, words: Sequence[str], listed: bool) -> Told:
    """Run the C program; once more without -trace_all, when it does not know it. Raises RunnerError."""
    from nbtorch.nanobragg.compare.programs import RunnerError, run

    with tempfile.TemporaryDirectory() as folder:
        if listed:
            with contextlib.suppress(RunnerError):
                done = run(program, (*words, "-trace_all"), Path(folder))
                return Told(done.command, _traced(program, done.out))
        done = run(program, words, Path(folder))
    lacks = "Steps of the C program are not listed: it does not know -trace_all." if listed else ""
    return Told(done.command, _traced(program, done.out), lacks)


def _traced(program: Program, out: str) -> str:
    """``out``, which must hold a trace. Raises RunnerError."""
    from nbtorch.nanobragg.compare.programs import RunnerError

    if not any(line.startswith("TRACE_C:") for line in out.splitlines()):
        why = "it printed no TRACE_C line: the pixel is masked, or it does not know -trace_pixel"
        raise RunnerError(program.command[0], why, "Choose another pixel or another program")
    return out


def report_of(options: argparse.Namespace, facts: Facts, py: Told, c: Told) -> tuple[TraceReport, dict[str, str]]:
    """The comparison, and the files to write by name."""
    from nbtorch.nanobragg.compare.reasons import why
    from nbtorch.nanobragg.compare.spindle import compare_steps, step_lines
    from nbtorch.nanobragg.compare.trace_report import TraceReport, as_csv, as_json, as_text
    from nbtorch.nanobragg.compare.traces import compare_traces, first_divergence, parse_trace

    ours, theirs = parse_trace(py.out.splitlines()), parse_trace(c.out.splitlines())
    factors = compare_traces(ours, theirs, facts.dtype)
    steps = compare_steps(ours, theirs, facts.phis, facts.dtype)
    first = first_divergence(factors)
    commands = {"py": ["nanoBragg", *py.words], "c": list(c.words)}
    reason = "" if first is None else why(first.name, facts, one_sided=not (first.py and first.c))
    report = TraceReport(options.pixel[0], options.pixel[1], commands, factors, steps, reason)
    texts = {
        "comparison.json": dumps(as_json(report)),
        "comparison.txt": "\n".join(as_text(report)) + "\n",
        "per_phi.log": "\n".join(step_lines(steps, py.lacks or c.lacks)) + "\n",
    }
    if options.emit_table:
        texts["comparison.csv"] = as_csv(report)
    return report, texts


def verdict_lines(report: TraceReport) -> list[str]:
    """What is printed: how many factors agree, the first divergence and its reason, the steps that part."""
    from nbtorch.nanobragg.compare.trace_report import verdict

    agree = sum(each.status == "agrees" for each in report.factors)
    parted = [f"{pair.index} (phi {pair.phi:g})" for pair in report.steps if not pair.agrees]
    lines = [f"{agree} of {len(report.factors)} factors agree", *verdict(report)]
    return lines + ([f"spindle steps that part: {', '.join(parted)}"] if parted else [])


def write_evidence(
    options: argparse.Namespace, report: TraceReport, facts: Facts, pair: Pair, program: Program
) -> Path:
    """The evidence bundle of this trace."""
    from nbtorch.nanobragg.compare.bundle import Evidence, digest, write_bundle
    from nbtorch.nanobragg.compare.trace_report import as_json

    content = as_json(report)
    metrics = {key: value for key, value in content.items() if key not in ("factors", "per_phi", "commands")}
    evidence = Evidence(
        tool=TOOL,
        commands=[report.commands["py"], report.commands["c"]],
        device=options.device or parse(pair.py).values.get("device", "cpu"),
        dtype=facts.dtype,
        metrics=metrics,
        summary=["# nb-trace", "", f"Pixel: slow {report.slow}, fast {report.fast}.", "", *verdict_lines(report)],
        metadata={
            "exit_code": GOOD if report.first is None else BELOW,
            "c_program_sha256": digest(Path(program.command[0])),
            "inputs_sha256": {path.name: digest(path) for path in pair.inputs},
            "notes": list(pair.notes),
        },
    )
    return write_bundle(evidence, options.out, Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
