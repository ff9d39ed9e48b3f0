"""CIF files of reflections (mmCIF, and the small-molecule kind), through gemmi."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nbtorch.errors import FileError
from nbtorch.io.amplitudes.columns import Missing, merged_from_mtz
from nbtorch.io.amplitudes.core_cif import is_core_reflections, read_core_cif
from nbtorch.io.amplitudes.types import Merged, Sample
from nbtorch.io.paths import one_line, read_text

if TYPE_CHECKING:
    import gemmi


def read_cif_document(path: Path) -> gemmi.cif.Document:
    """The CIF at ``path``. Raises FileError naming the line where it is not CIF."""
    from gemmi import cif

    try:
        return cif.read_string(read_text(path))
    except (RuntimeError, ValueError) as error:
        raise FileError(str(path), f"it is not CIF ({one_line(error)})", "Check that the file is whole") from error


def has_reflections(document: gemmi.cif.Document) -> bool:
    """Whether a CIF document holds a loop of reflections."""
    return any(
        block.find_loop(tag)
        for block in document
        for tag in ("_refln.index_h", "_refln_index_h", "_diffrn_refln.index_h", "_diffrn_refln_index_h")
    )


def read_reflection_cif(
    document: gemmi.cif.Document, path: Path, column: str | None, missing: Missing, sample: Sample
) -> Merged:
    """The amplitudes of the first block with reflections. Raises FileError or DataError as the MTZ reader does."""
    import gemmi

    core = next((block for block in document if is_core_reflections(block)), None)
    if core is not None:
        return read_core_cif(core, path, column)
    try:
        block = next(block for block in gemmi.as_refln_blocks(document) if block.column_labels())
        mtz = gemmi.CifToMtz().convert_block_to_mtz(block)
    except (RuntimeError, ValueError, IndexError, StopIteration) as error:
        raise FileError(
            str(path), f"its reflections cannot be used ({one_line(error)})", "Check the file's columns"
        ) from error
    return merged_from_mtz(mtz, path, column, missing, sample)
