"""What an experiment list holds, and what a fit may change in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, ScanConfig
from nbtorch.io.amplitudes.types import Radiation, Sample
from nbtorch.io.expt.images import PixelFiles


@dataclass(frozen=True)
class ExperimentEntry:
    """One experiment: its models, where they stand in the document (None: absent), and its frames.

    ``images`` are the frames the document names: the path as written where it exists (also .gz and .bz2), else a file
    of that name beside the .expt. ``image_indices`` say which image of its file each frame is, from 0; empty where the
    document does not. ``pixel_files`` are the mask, gain and pedestal that it names. A scan without a goniometer has
    no angles: its frames are stills. ``radiation`` is None where the beam does not say. The crystal carries its
    goniometer. ``notes`` are sentences for the report.
    """

    beam: BeamConfig
    detector: DetectorConfig
    crystal: CrystalConfig | None
    scan: ScanConfig | None
    images: tuple[Path, ...]
    identifier: str
    beam_index: int
    detector_index: int
    crystal_index: int | None
    goniometer_index: int | None
    scan_index: int | None
    notes: tuple[str, ...] = ()
    image_indices: tuple[int, ...] = ()
    pixel_files: PixelFiles = field(default_factory=PixelFiles)
    radiation: Radiation | None = None

    @property
    def sample(self) -> Sample:
        """What this experiment tells ``read_amplitudes``: cell, space group, wavelength and radiation."""
        if self.crystal is None:
            return Sample(wavelength=self.beam.wavelength, radiation=self.radiation)
        return Sample(self.crystal.cell, self.crystal.space_group, self.beam.wavelength, self.radiation)

    @property
    def is_still(self) -> bool:
        """Whether the crystal stands still during each frame."""
        return self.goniometer_index is None or self.scan is None or self.scan.oscillation == 0


@dataclass(frozen=True)
class ExperimentList:
    """The experiments of one .expt file, and the file's JSON, which ``write_expt`` patches. Treat it as read-only.

    ``not_used`` are sentences that name every key of the document with a value that nothing was made of.
    """

    entries: tuple[ExperimentEntry, ...]
    document: Mapping[str, Any]
    path: Path
    not_used: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> ExperimentEntry:
        return self.entries[index]


@dataclass(frozen=True)
class ExptUpdates:
    """New models by their index in the document; what is not named stays as it was.

    Of a detector the panel frames are written (lab frame, mm), of a beam its direction, wavelength and polarization, of
    a crystal its cell, orientation and scan points.
    """

    detectors: Mapping[int, DetectorConfig] = field(default_factory=dict)
    beams: Mapping[int, BeamConfig] = field(default_factory=dict)
    crystals: Mapping[int, CrystalConfig] = field(default_factory=dict)
