"""result.json, refined.expt and spots.csv: what a run leaves for other programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nbtorch.errors import DataError
from nbtorch.io.expt import ExperimentList, ExptUpdates, write_expt
from nbtorch.io.table import read_json, write_csv, write_json
from refine.records.journal import JournalEntry, merged, sentences
from refine.records.outcome import Goodness, Outcome, Pair, ParameterRow, SpotRow
from refine.records.provenance import DataFile, Provenance
from refine.records.run_folder import AMPLITUDES, REFINED, RESULT, SPOTS, RunFolder
from refine.report.amplitude_results import summary, write_mtz
from refine.report.remarks import remarks

SCHEMA_VERSION = 1  # of result.json: higher where a key has gone, has another meaning or another unit


@dataclass(frozen=True)
class TruthRow:
    """A parameter of a simulated experiment: what the fit found, and what is true."""

    name: str
    unit: str
    start: float
    value: float
    sigma: float | None
    truth: float

    @property
    def error(self) -> float:
        """value − truth, in ``unit``."""
        return self.value - self.truth

    @property
    def in_sigmas(self) -> float | None:
        """The error in units of the fit's own sigma; None without one."""
        return self.error / self.sigma if self.sigma else None


@dataclass(frozen=True, eq=False)
class Finding:
    """An outcome with everything that is reported beside it."""

    outcome: Outcome
    record: Provenance
    files: tuple[DataFile, ...]
    truth: tuple[TruthRow, ...] = ()
    stopped_by: str = ""

    @property
    def journal(self) -> tuple[JournalEntry, ...]:
        """What the run said, and what its outcome makes us warn of."""
        return merged(self.outcome.journal, remarks(self.outcome, self.stopped_by))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before trusting the numbers, the verdict's findings first."""
        grave = [row.sentence for row in self.outcome.verdict.findings if row.level != "note"]
        return tuple(dict.fromkeys((*grave, *sentences(self.journal, "warning"))))

    @property
    def choices(self) -> tuple[str, ...]:
        """What the program chose or assumed by itself."""
        return sentences(self.journal, "choice", "assumption")


def read_truth(path: Path) -> dict[str, float]:
    """The true values by name; the file holds {"parameters": {name: value}}, else DataError."""
    document = read_json(path)
    values = document.get("parameters") if isinstance(document, dict) else None
    numbers = isinstance(values, dict) and all(
        isinstance(v, (int, float)) and math.isfinite(v) for v in values.values()
    )
    if not isinstance(values, dict) or not numbers:
        raise DataError(f"data.truth={path}", 'it does not hold {"parameters": {name: number}}', "Give another file")
    return {str(name): float(value) for name, value in values.items()}


def truth_rows(outcome: Outcome, truth: Mapping[str, float]) -> tuple[TruthRow, ...]:
    """The free parameters that ``truth`` names."""
    return tuple(
        TruthRow(row.name, row.unit, row.start, row.value, row.sigma, truth[row.name])
        for row in outcome.parameters
        if row.free and row.tied_to is None and row.name in truth
    )


def document(finding: Finding) -> dict[str, Any]:
    """result.json as plain data. Its first keys are a contract that other programs read."""
    outcome, record = finding.outcome, finding.record
    return {
        "schema_version": SCHEMA_VERSION,
        "version": record.version,
        "command": record.command,
        "seed": record.seed,
        "converged": outcome.converged,
        "verdict": {"level": outcome.verdict.level, "findings": [asdict(row) for row in outcome.verdict.findings]},
        "timing": {
            "solve_wall_s": outcome.solve_wall_s,
            "solve_cpu_s": outcome.solve_cpu_s,
            "processes": [asdict(share) for share in outcome.processes],
        },
        "parameters": [asdict(row) for row in outcome.parameters],
        "model": [asdict(row) for row in outcome.model],
        "undetermined": [asdict(row) for row in outcome.undetermined],
        "weakest": None if outcome.weakest is None else asdict(outcome.weakest),
        "spots": {
            "used": outcome.n_used,
            "rejected": outcome.n_rejected,
            "heldout": sum(spot.heldout for spot in outcome.spots),
            "rms_start_px": _pair(outcome.rms_start_px),
            "rms_end_px": _pair(outcome.rms_end_px),
            "rms_heldout_px": _pair(outcome.rms_heldout_px),
        },
        "frames": [asdict(row) for row in outcome.frames],
        "message": outcome.message,
        "stopped_by": finding.stopped_by or None,
        "warnings": list(finding.warnings),
        "choices": list(finding.choices),
        "journal": [asdict(entry) for entry in finding.journal],
        "amplitudes": summary(outcome, AMPLITUDES),
        "goodness": _goodness(outcome.goodness),
        "correlations": _correlations(outcome),
        "history": [asdict(step) for step in outcome.history],
        "truth": [{**asdict(row), "error": row.error, "in_sigmas": row.in_sigmas} for row in finding.truth],
        "provenance": {
            **{key: value for key, value in asdict(record).items() if key not in ("version", "command", "seed")},
            "versions": dict(record.versions),
            "files": [asdict(file) for file in finding.files],
        },
    }


def _pair(pair: Pair | None) -> list[float] | None:
    return None if pair is None else list(pair)


def _goodness(goodness: Goodness) -> dict[str, Any]:
    return {field.name: getattr(goodness, field.name) for field in fields(goodness)}


def _correlations(outcome: Outcome) -> dict[str, Any] | None:
    table = outcome.correlation
    if table is None:
        return None
    pairs = [{"first": a, "second": b, "correlation": value} for a, b, value in table.degenerate]
    own = [{"names": list(crystal.names), "matrix": crystal.matrix} for crystal in table.crystals]
    return {"names": list(table.names), "matrix": table.matrix, "degenerate": pairs, "crystals": own}


def write_results(finding: Finding, experiments: ExperimentList, folder: RunFolder) -> None:
    """Write ``experiments`` as refined, spots.csv, refined amplitudes and, last, result.json: where it is, all is."""
    outcome = finding.outcome
    updates = ExptUpdates(outcome.detectors, outcome.beams, outcome.crystals)
    write_expt(folder / REFINED, experiments, updates, overwrite=True)
    columns = [field.name for field in fields(SpotRow)]
    rows = ([_cell(getattr(spot, name)) for name in columns] for spot in outcome.spots)
    write_csv(folder / SPOTS, columns, rows, overwrite=True)
    if outcome.amplitudes:
        write_mtz(folder / AMPLITUDES, outcome.amplitudes, next(iter(outcome.crystals.values())))
    write_json(folder / RESULT, document(finding), overwrite=True)


def _cell(value: object) -> object:
    """A CSV cell: nothing for None and NaN, 1 and 0 for true and false, nine digits of a number."""
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, float):
        return value
    return f"{value:.9g}" if math.isfinite(value) else None


def change_in_sigmas(row: ParameterRow) -> float | None:
    """How far a parameter moved, in its own sigmas; None where it has none."""
    return (row.value - row.start) / row.sigma if row.free and row.sigma else None
