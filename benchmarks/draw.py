"""``python benchmarks/draw.py``: results/many_frames_1.json and results/basin.json as pictures in docs/images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
IMAGES, RESULTS = ROOT / "docs" / "images", ROOT / "benchmarks" / "results"
WAYS = (("pixels", "pixels alone", "tab:orange"), ("staged", "positions, then pixels", "tab:blue"))


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of one result; none where it was not measured."""
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text())["rows"] if path.exists() else []
    assert isinstance(found, list)
    return found


def many_frames(rows: list[dict[str, Any]]) -> None:
    """Time and memory against the number of frames, with proportional growth from the first as a dashed line."""
    frames = [row["frames"] for row in rows]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    panels = (
        ("an iteration of all frames, CPU s", [row["s an iteration"] for row in rows]),
        ("preparation, CPU s", [row["preparation s"] for row in rows]),
        ("memory above the program's own, MB", [row["MB at peak"] - row["MB before"] for row in rows]),
    )
    for axis, (title, values) in zip(axes, panels, strict=True):
        axis.plot(frames, values, "o-", color="tab:blue")
        axis.plot(frames, [values[-1] * count / frames[-1] for count in frames], "--", color="grey")
        axis.set(xscale="log", yscale="log", xlabel="stills", title=title)
        axis.title.set_fontsize(10)
    figure.savefig(IMAGES / "many_frames.png", dpi=110)


def basin(rows: list[dict[str, Any]]) -> None:
    """The fraction of starts that converge against the size of the error, a panel a kind."""
    kinds = list(dict.fromkeys(row["error"] for row in rows))
    figure, axes = plt.subplots(1, len(kinds), figsize=(3 * len(kinds), 3), layout="constrained", sharey=True)
    for axis, kind in zip(axes, kinds, strict=True):
        chosen = [row for row in rows if row["error"] == kind]
        sizes = [float(row["size"].split()[0]) for row in chosen]
        for way, label, colour in WAYS:
            axis.plot(sizes, [100 * row[way] for row in chosen], "o-", color=colour, label=label)
        axis.set(xscale="log", title=kind, xlabel=chosen[0]["size"].split()[1], ylim=(-5, 105))
        axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axis.minorticks_off()
    axes[0].set_ylabel(f"of {rows[0]['starts']} starts converge, %")
    axes[0].legend(fontsize=8)
    figure.savefig(IMAGES / "basin.png", dpi=110)


if __name__ == "__main__":
    for draw, name in ((many_frames, "many_frames_1"), (basin, "basin")):
        if rows := rows_of(name):
            draw(rows)
