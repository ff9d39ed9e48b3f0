"""Writing refined models back: the original document is patched, and every other key stays as it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nbtorch.config import DetectorConfig
from nbtorch.errors import DataError
from nbtorch.io.atomic import write_text
from nbtorch.io.expt.beam import patch_beam, read_beam
from nbtorch.io.expt.crystal import patch_crystal
from nbtorch.io.expt.detector import panel_matrix, read_detector, read_tree
from nbtorch.io.expt.node import Node
from nbtorch.io.expt.types import ExperimentList, ExptUpdates

Model = dict[str, Any]
Config = TypeVar("Config")


def write_expt(path: str | Path, experiments: ExperimentList, updates: ExptUpdates, *, overwrite: bool = False) -> Path:
    """Write ``experiments`` with ``updates`` applied, and return the path.

    Panel frames go back into their parent's frame; the groups of the hierarchy stay where they were. In another folder
    than the one that was read, relative image names become absolute, so that they still lead to the frames. Raises
    DataError for an update of a model that the document lacks or a detector of another number of panels, and FileError
    when the file exists and ``overwrite`` is False.
    """
    document = patched_document(experiments, updates)
    if Path(path).absolute().parent != experiments.path.absolute().parent:
        folder = experiments.path.absolute().parent
        document["imageset"] = [_absolute_names(imageset, folder) for imageset in document.get("imageset", [])]
    return write_text(path, json.dumps(document, indent=1) + "\n", overwrite=overwrite)


def patched_document(experiments: ExperimentList, updates: ExptUpdates) -> dict[str, Any]:
    """The JSON of ``experiments`` with ``updates`` applied. The original is not touched."""
    document = dict(experiments.document)
    file = experiments.path

    def beam(index: int, model: Model, config: Any) -> Model:
        return patch_beam(model, read_beam(Node(model, file, f"beam[{index}]")), config)

    def detector(index: int, model: Model, config: DetectorConfig) -> Model:
        return _patch_detector(Node(model, file, f"detector[{index}]"), config)

    def crystal(index: int, model: Model, config: Any) -> Model:
        return patch_crystal(model, config)

    document["beam"] = _patch_all(document, "beam", updates.beams, beam)
    document["detector"] = _patch_all(document, "detector", updates.detectors, detector)
    document["crystal"] = _patch_all(document, "crystal", updates.crystals, crystal)
    return document


def _absolute_names(imageset: Model, folder: Path) -> Model:
    absolute = dict(imageset)
    if isinstance(imageset.get("template"), str):
        absolute["template"] = str(folder / imageset["template"])
    if isinstance(imageset.get("images"), list):
        absolute["images"] = [str(folder / name) for name in imageset["images"]]
    for key in ("mask", "gain", "pedestal", "dx", "dy"):
        if isinstance(imageset.get(key), str) and imageset[key]:
            absolute[key] = str(folder / imageset[key])
    return absolute


def _patch_all(
    document: Mapping[str, Any],
    kind: str,
    updates: Mapping[int, Config],
    patch: Callable[[int, Model, Config], Model],
) -> list[Model]:
    models = list(document.get(kind, []))
    for index, config in updates.items():
        if not 0 <= index < len(models):
            raise DataError(f"an update of {kind} {index}", f"the document holds {len(models)}", "Use an index it has")
        models[index] = patch(index, models[index], config)
    return models


def _patch_detector(node: Node, detector: DetectorConfig) -> Model:
    before = read_detector(node)
    if len(detector.panels) != len(before.panels):
        raise DataError(
            f"an update of {node.where}",
            f"it has {len(detector.panels)} panels where the document has {len(before.panels)}",
            "Update the detector that was read",
        )
    parents = read_tree(node, len(before.panels)).parent_frames
    panels = []
    for index, (model, old, new) in enumerate(zip(node.value["panels"], before.panels, detector.panels, strict=True)):
        same = (old.fast_axis, old.slow_axis, old.origin) == (new.fast_axis, new.slow_axis, new.origin)
        local = None if same else np.linalg.solve(parents[index], panel_matrix(new))
        panels.append(model if local is None else {**model, **_frame_keys(local)})
    return {**node.value, "panels": panels}


def _frame_keys(local: np.ndarray) -> Model:
    columns = {"fast_axis": local[:3, 0], "slow_axis": local[:3, 1], "origin": local[:3, 3]}
    return {key: [float(x) for x in column] for key, column in columns.items()}
