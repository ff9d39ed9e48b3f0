"""check.html: what ``nb-refine --check`` found, in words and pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from refine.records.checked import Drawing, ExperimentCheck
from refine.settings.fit_settings import DataSettings
from refine.settings.paths import template_dir

Array = NDArray[np.float64]


def describe(row: ExperimentCheck) -> str:
    """One line about a still or scan."""
    text = f"{row.name}: {row.frames} frame{'s' if row.frames != 1 else ''}"
    if row.lost:
        text += f" ({row.lost} cannot be read)"
    if row.predicted is not None:
        text += f", {row.predicted} reflections predicted on the detector"
    text += f", {row.found} spots found"
    return text if row.offset is None else f"{text}, half of them within {row.offset:.1f} px of a prediction"


def page(
    data: DataSettings, rows: Sequence[ExperimentCheck], drawings: Sequence[Drawing], geometry: Sequence[str] = ()
) -> str:
    """check.html: a line a still or scan, where each number of the ``geometry`` came from, and the drawings."""
    environment = Environment(loader=FileSystemLoader(template_dir()), autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("check.html.j2")
    return template.render(data=data, rows=[describe(row) for row in rows], drawings=drawings, geometry=geometry)
