"""Reading an experiment list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, ScanConfig
from nbtorch.errors import FileError
from nbtorch.io.expt.beam import read_beam, read_radiation
from nbtorch.io.expt.crystal import read_crystal, space_group
from nbtorch.io.expt.detector import read_detector
from nbtorch.io.expt.goniometer import read_goniometer, read_scan
from nbtorch.io.expt.images import PixelFiles, read_images, read_indices, read_pixel_files
from nbtorch.io.expt.node import Node
from nbtorch.io.expt.types import ExperimentEntry, ExperimentList
from nbtorch.io.expt.unused import not_used
from nbtorch.io.paths import find_file, read_head
from nbtorch.io.recognize import refuse_as_experiment
from nbtorch.io.table import read_json


def read_expt(path: str | Path) -> ExperimentList:
    """The experiments of a dxtbx .expt file (JSON: mm, Å, degrees).

    Raises FileError naming the file, the place in it (such as detector[0].panels[3].origin) and what is wrong there.
    """
    found = find_file(path)
    refuse_as_experiment(read_head(found), found)
    return read_document(read_json(found), found)


def read_document(document: Any, found: Path) -> ExperimentList:
    """``read_expt`` of a document in memory; ``found`` stands for its file, and relative names start beside it."""
    if not isinstance(document, dict) or document.get("__id__") != "ExperimentList":
        raise FileError(
            str(found), 'it is JSON but no experiment list (no "__id__": "ExperimentList")', "Give a dxtbx .expt file"
        )
    root = Node(document, found)
    listed = root.list("experiment", required=True)
    if not listed:
        root["experiment"].fail("the list holds no experiment")
    reader = _Reader(root)
    entries = tuple(reader.entry(node) for node in listed)
    return ExperimentList(entries, document, found, not_used(document, root.seen))


class _Reader:
    """Reads each model once, however many experiments share it."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.beams: dict[int, BeamConfig] = {}
        self.detectors: dict[int, DetectorConfig] = {}
        self.models: dict[str, tuple[Node, ...]] = {}

    def entry(self, node: Node) -> ExperimentEntry:
        """One experiment with its models resolved."""
        beam, detector = self._index(node, "beam"), self._index(node, "detector")
        if beam is None or detector is None:
            node.fail(f"the experiment names no {'beam' if beam is None else 'detector'}")
        crystal, goniometer = self._index(node, "crystal"), self._index(node, "goniometer")
        scan = self._index(node, "scan")
        scan_config, scan_notes = self._scan(scan, goniometer)
        imageset = self._index(node, "imageset")
        images = () if imageset is None else read_images(self._model("imageset", imageset), scan_config)
        pictures = None if imageset is None else self._model("imageset", imageset)
        return ExperimentEntry(
            beam=self._beam(beam),
            detector=self._detector(detector),
            crystal=self._crystal(crystal, goniometer),
            scan=scan_config,
            images=images,
            image_indices=() if pictures is None else read_indices(pictures, len(images)),
            pixel_files=PixelFiles() if pictures is None else read_pixel_files(pictures),
            radiation=read_radiation(self._model("beam", beam)),
            identifier=node.text("identifier"),
            beam_index=beam,
            detector_index=detector,
            crystal_index=crystal,
            goniometer_index=goniometer,
            scan_index=scan,
            notes=(*self._notes(crystal), *scan_notes),
        )

    def _index(self, node: Node, kind: str) -> int | None:
        if not node.has(kind):
            return None
        index, count = node[kind].integer(), len(self._models(kind))
        if not 0 <= index < count:
            node[kind].fail(f"it names {kind} {index}, but the file holds {count}")
        return index

    def _model(self, kind: str, index: int) -> Node:
        model = self._models(kind)[index]
        self.root.seen.add(model.where)
        return model

    def _models(self, kind: str) -> tuple[Node, ...]:
        if kind not in self.models:
            self.models[kind] = self.root.list(kind)
        return self.models[kind]

    def _scan(self, scan: int | None, goniometer: int | None) -> tuple[ScanConfig | None, tuple[str, ...]]:
        """The scan; without a goniometer nothing turned, as dxtbx has it, and only its image numbers count."""
        if scan is None:
            return None, ()
        config = read_scan(self._model("scan", scan))
        if goniometer is not None or (config.phi_start, config.oscillation) == (0, 0):
            return config, ()
        note = (
            f"scan {scan} turns by {config.oscillation:g}° an image, but there is no goniometer: its frames are stills"
        )
        return ScanConfig(0.0, 0.0, config.n_frames, config.first_image), (note,)

    def _beam(self, index: int) -> BeamConfig:
        if index not in self.beams:
            self.beams[index] = read_beam(self._model("beam", index))
        return self.beams[index]

    def _detector(self, index: int) -> DetectorConfig:
        if index not in self.detectors:
            self.detectors[index] = read_detector(self._model("detector", index))
        return self.detectors[index]

    def _crystal(self, index: int | None, goniometer: int | None) -> CrystalConfig | None:
        if index is None:
            return None
        stand = None if goniometer is None else read_goniometer(self._model("goniometer", goniometer))
        return read_crystal(self._model("crystal", index), stand)

    def _notes(self, crystal: int | None) -> tuple[str, ...]:
        if crystal is None or space_group(self._model("crystal", crystal)) is not None:
            return ()
        symbol = self._model("crystal", crystal).text("space_group_hall_symbol")
        return (f"crystal {crystal} has the unusual setting {symbol.strip()}: it is treated as P 1",)
