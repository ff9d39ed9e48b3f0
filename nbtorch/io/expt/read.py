"""Reading an experiment list."""

from __future__ import annotations

from pathlib import Path

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, ScanConfig
from nbtorch.errors import FileError
from nbtorch.io.expt.beam import read_beam
from nbtorch.io.expt.crystal import read_crystal, space_group
from nbtorch.io.expt.detector import read_detector
from nbtorch.io.expt.goniometer import read_goniometer, read_scan
from nbtorch.io.expt.images import read_images
from nbtorch.io.expt.node import Node
from nbtorch.io.expt.types import ExperimentEntry, ExperimentList
from nbtorch.io.paths import find_file
from nbtorch.io.table import read_json


def read_expt(path: str | Path) -> ExperimentList:
    """The experiments of a dxtbx .expt file (JSON: mm, Å, degrees).

    Raises FileError naming the file, the place in it (such as detector[0].panels[3].origin) and what is wrong there.
    """
    found = find_file(path)
    document = read_json(found)
    if not isinstance(document, dict) or document.get("__id__") != "ExperimentList":
        raise FileError(
            str(found), 'it is JSON but no experiment list (no "__id__": "ExperimentList")', "Give a dxtbx .expt file"
        )
    root = Node(document, found)
    listed = root.list("experiment", required=True)
    if not listed:
        root["experiment"].fail("the list holds no experiment")
    reader = _Reader(root)
    return ExperimentList(tuple(reader.entry(node) for node in listed), document, found)


class _Reader:
    """Reads each model once, however many experiments share it."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.beams: dict[int, BeamConfig] = {}
        self.detectors: dict[int, DetectorConfig] = {}

    def entry(self, node: Node) -> ExperimentEntry:
        """One experiment with its models resolved."""
        beam, detector = self._index(node, "beam"), self._index(node, "detector")
        if beam is None or detector is None:
            node.fail(f"the experiment names no {'beam' if beam is None else 'detector'}")
        crystal, goniometer = self._index(node, "crystal"), self._index(node, "goniometer")
        scan = self._index(node, "scan")
        scan_config = None if scan is None else read_scan(self._model("scan", scan))
        return ExperimentEntry(
            beam=self._beam(beam),
            detector=self._detector(detector),
            crystal=self._crystal(crystal, goniometer),
            scan=scan_config,
            images=self._images(node, scan_config),
            identifier=node.text("identifier"),
            beam_index=beam,
            detector_index=detector,
            crystal_index=crystal,
            goniometer_index=goniometer,
            scan_index=scan,
            notes=self._notes(crystal),
        )

    def _index(self, node: Node, kind: str) -> int | None:
        if not node.has(kind):
            return None
        index, count = node[kind].integer(), len(self.root.list(kind))
        if not 0 <= index < count:
            node[kind].fail(f"it names {kind} {index}, but the file holds {count}")
        return index

    def _model(self, kind: str, index: int) -> Node:
        return self.root.list(kind)[index]

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

    def _images(self, node: Node, scan: ScanConfig | None) -> tuple[Path, ...]:
        index = self._index(node, "imageset")
        return () if index is None else read_images(self._model("imageset", index), scan)
