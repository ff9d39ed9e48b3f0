"""The command line of ``nb-refine compare``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nbtorch.io.expt import read_expt
from nbtorch.io.table import write_json
from refine.commands.compare import BodyChange, Comparison, CrystalChange, compare
from refine.report.numbers import minus
from refine.report.summary import PIPE_WIDTH

MAX_DEPTH = 2  # of the groups listed: the whole detector and its parts
VISIBLE = 5e-5  # mm
MAX_PANELS = 12  # listed one by one; of larger detectors the panels that moved most


def main(arguments: Sequence[str]) -> int:
    """Compare two experiment lists and print how they differ; the exit code. Raises NbtorchError."""
    parser = argparse.ArgumentParser("nb-refine compare", description="How the geometry of B differs from that of A.")
    parser.add_argument("first", type=Path, metavar="A.expt")
    parser.add_argument("second", type=Path, metavar="B.expt")
    parser.add_argument("--all", action="store_true", help="list every panel")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to FILE too")
    try:
        options = parser.parse_args(list(arguments))
    except SystemExit as error:  # argparse has printed what it wants
        return int(error.code or 0)
    found = compare(read_expt(options.first), read_expt(options.second))
    if options.json is not None:
        write_json(options.json, asdict(found))
    show(found, Console(width=None if sys.stdout.isatty() else PIPE_WIDTH), every_panel=options.all)
    return 0


def show(found: Comparison, console: Console, *, every_panel: bool) -> None:
    """Print ``found``."""
    groups = [body for body in found.groups if every_panel or body.depth < MAX_DEPTH]
    console.print(_bodies("Groups as rigid bodies, along A's fast, slow, normal", groups))
    panels = list(found.panels)
    left_out = 0 if every_panel else max(0, len(panels) - MAX_PANELS)
    if left_out:
        panels.sort(key=lambda panel: -sum(x * x for x in panel.shift))
        panels = panels[:MAX_PANELS]
    if len(found.panels) > 1:
        console.print(_bodies(f"The {MAX_PANELS} panels that moved most" if left_out else "Panels", panels))
    if left_out:
        console.print(f"… {left_out} more with --all")
    for table in _crystals(found.crystals):
        console.print(table)
    start, end = found.distance
    console.print(
        minus(
            f"beam direction {found.beam_angle:.4f}° apart, wavelength {found.wavelength:+.6f} Å, "
            f"distance {start:.4f} → {end:.4f} mm ({end - start:+.4f})"
        ),
        highlight=False,
    )
    for warning in found.warnings:
        console.print(warning, markup=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, box=None, header_style="bold", title_justify="left", title_style="italic", pad_edge=False
    )
    table.add_column("name", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _bodies(title: str, bodies: Sequence[BodyChange]) -> Table:
    bends = any(body.misfit > VISIBLE for body in bodies)
    columns = [
        "shift fast",
        "slow",
        "normal, mm",
        "rot fast",
        "slow",
        "normal, °",
        *(["not rigid, mm"] if bends else []),
    ]
    table = _table(title, *columns)
    for body in bodies:
        cells = [minus(f"{value:+.4f}") for value in (*body.shift, *body.rotation)]
        table.add_row(body.name, *cells, *([f"{body.misfit:.4f}"] if bends else []))
    return table


def _crystals(crystals: Sequence[CrystalChange]) -> list[Table]:
    """One table of orientations, one of cells; none without crystals."""
    if not crystals:
        return []
    turned = _table("Orientations", "misorientation, °", "about x", "y", "z", "")
    cells = _table("Cells", "a", "b", "c, Å", "a", "b", "c, %", "α", "β", "γ, °")
    for crystal in crystals:
        name = crystal.name.replace("[", r"\[")
        note = "to an equivalent indexing" if crystal.reindexed else ""
        turned.add_row(name, f"{crystal.misorientation:.4f}", *(minus(f"{x:+.4f}") for x in crystal.rotation), note)
        numbers = [f"{value:+.4f}" for value in crystal.cell[:3]]
        numbers += [f"{value:+.3f}" for value in (*crystal.cell_percent, *crystal.cell[3:])]
        cells.add_row(name, *(minus(text) for text in numbers))
    return [turned, cells]
