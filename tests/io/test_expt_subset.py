"""Some frames of an experiment list: the scan begins where they do, and what is written names them alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbtorch.io.expt import ExptUpdates, Part, read_expt, subset, write_expt
from tests.refine import small


def written(folder: Path, **scan: Any) -> Path:
    """start.expt of small's scan of three frames, with keys of its ``scan`` replaced."""
    document = small.document()
    document["scan"][0] |= scan
    path = folder / "start.expt"
    path.write_text(json.dumps(document))
    return path


def test_a_part_of_a_scan_begins_at_its_first_frame(tmp_path: Path) -> None:
    whole = read_expt(written(tmp_path))
    (entry,) = subset(whole, [Part(0, 1, 2)]).entries
    assert entry.scan is not None
    assert (entry.scan.phi_start, entry.scan.n_frames, entry.scan.first_image) == (small.OSCILLATION, 2, 2)
    assert entry.images == whole[0].images[1:]


@pytest.mark.parametrize(
    "keys",
    [{}, {"properties": {"oscillation": [0.0, 0.6, 1.2], "oscillation_width": [0.6] * 3, "epochs": [1.0, 2.0, 3.0]}}],
    ids=["start-and-width", "a-value-a-frame"],
)
def test_what_is_written_of_a_part_reads_back_as_the_part(tmp_path: Path, keys: dict[str, Any]) -> None:
    path = written(tmp_path, **keys)
    if keys:
        document = json.loads(path.read_text())
        del document["scan"][0]["oscillation"]
        path.write_text(json.dumps(document))
    part = subset(read_expt(path), [Part(0, 1, 2)])
    back = read_expt(write_expt(tmp_path / "part.expt", part, ExptUpdates()))
    assert back[0].scan == part[0].scan
    assert back[0].images == part[0].images


def test_frames_as_experiments_of_their_own_share_the_crystal_and_have_a_scan_each(tmp_path: Path) -> None:
    found = subset(read_expt(written(tmp_path)), [Part(0, k, k) for k in range(3)])
    assert [entry.crystal_index for entry in found.entries] == [0, 0, 0]
    assert [entry.scan_index for entry in found.entries] == [0, 1, 2]
    starts = [entry.scan.phi_start for entry in found.entries if entry.scan is not None]
    assert starts == pytest.approx([0.0, 0.6, 1.2])


def test_images_that_are_listed_are_cut_with_their_places_in_the_file(tmp_path: Path) -> None:
    document = small.document()
    document["imageset"] = [{"__id__": "ImageSequence", "images": list("abc"), "single_file_indices": [4, 5, 6]}]
    path = tmp_path / "start.expt"
    path.write_text(json.dumps(document))
    part = subset(read_expt(path), [Part(0, 1, 2)])
    imageset = part.document["imageset"][0]
    assert (imageset["images"], imageset["single_file_indices"]) == (["b", "c"], [5, 6])
