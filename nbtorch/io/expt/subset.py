"""Some frames of an experiment list, as an experiment list of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbtorch.config import ScanConfig
from nbtorch.io.expt.types import ExperimentEntry, ExperimentList

Model = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Frames ``first`` to ``last`` (counted from 0, inclusive) of experiment ``number``."""

    number: int
    first: int
    last: int


def subset(experiments: ExperimentList, parts: Sequence[Part]) -> ExperimentList:
    """The ``parts`` of ``experiments`` as one list: scans begin at their part's first frame, other models are shared.

    What is written from it names these frames alone. A part of a still is the still.
    """
    builder = _Builder(experiments)
    entries = tuple(builder.entry(part) for part in parts)
    return ExperimentList(entries, builder.document, experiments.path, experiments.not_used)


class _Builder:
    """The new document: every (model, frames) pair stands in it once."""

    def __init__(self, experiments: ExperimentList) -> None:
        self.experiments = experiments
        self.document: Model = dict(experiments.document)
        self.document |= {"experiment": [], "scan": [], "imageset": []}
        self.places: dict[tuple[str, int, int, int], int] = {}

    def entry(self, part: Part) -> ExperimentEntry:
        """One part as an experiment; its node and models go into the document."""
        old = self.experiments.entries[part.number]
        node = dict(self.experiments.document["experiment"][part.number])
        for kind, cut in (("scan", _cut_scan), ("imageset", _cut_imageset)):
            if node.get(kind) is not None:
                node[kind] = self._place(kind, int(node[kind]), part, cut)
        self.document["experiment"].append(node)
        scan = None if old.scan is None else _later(old.scan, part)
        images = old.images[part.first : part.last + 1] if old.scan is not None else old.images
        indices = old.image_indices
        if old.scan is not None and len(indices) == old.scan.n_frames:
            indices = indices[part.first : part.last + 1]
        scan_index = node.get("scan") if old.scan_index is not None else None
        return replace(old, scan=scan, images=images, image_indices=indices, scan_index=scan_index)

    def _place(self, kind: str, index: int, part: Part, cut: Any) -> int:
        key = (kind, index, part.first, part.last)
        if key not in self.places:
            self.places[key] = len(self.document[kind])
            self.document[kind].append(cut(self.experiments.document[kind][index], part))
        return self.places[key]


def _later(scan: ScanConfig, part: Part) -> ScanConfig:
    return replace(
        scan,
        phi_start=scan.phi_start + part.first * scan.oscillation,
        n_frames=part.last - part.first + 1,
        first_image=scan.first_image + part.first,
    )


def _cut_scan(scan: Model, part: Part) -> Model:
    """A scan's JSON, old (``oscillation`` is start and width) or new (``properties`` hold a value a frame)."""
    start = scan["image_range"][0] + part.first
    cut = {**scan, "image_range": [start, start + part.last - part.first]}
    if "properties" in scan:
        cut["properties"] = {key: _some(value, scan, part) for key, value in scan["properties"].items()}
    if "oscillation" in scan:
        first, width = scan["oscillation"]
        cut["oscillation"] = [first + part.first * width, width]
    for key in ("exposure_time", "epochs"):
        if key in scan:
            cut[key] = _some(scan[key], scan, part)
    return {key: value for key, value in cut.items() if key != "valid_image_ranges"}


def _some(values: Any, scan: Model, part: Part) -> Any:
    """The part's values of a list that holds one a frame; anything else as it is."""
    frames = scan["image_range"][1] - scan["image_range"][0] + 1
    whole = isinstance(values, list) and len(values) == frames
    return values[part.first : part.last + 1] if whole else values


def _cut_imageset(imageset: Model, part: Part) -> Model:
    """An imageset's JSON: of a template the scan says which frames, of lists those of the part remain."""
    cut = dict(imageset)
    for key in ("images", "single_file_indices"):
        if isinstance(imageset.get(key), list) and len(imageset[key]) > part.last:
            cut[key] = imageset[key][part.first : part.last + 1]
    return cut
