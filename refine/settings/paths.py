"""Where the files that ship with the fit are, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

from nbtorch.errors import FileError

PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """Folder of the Hydra configs: ``refine/configs`` in an installation, ``configs`` beside it in a checkout.

    Raises FileError when neither is there, which only a damaged installation can cause.
    """
    # The installed place first: a foreign folder named configs may lie beside an installed refine.
    for candidate in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if candidate.is_dir():
            return candidate
    raise FileError(f"the configs of {PACKAGE}", "the installation does not hold them", "Install nbtorch again")


def template_dir() -> Path:
    """Folder of the report's templates."""
    return PACKAGE / "report" / "templates"


def default_data_dir() -> Path:
    """Folder of the embedded experiment that ``make refine`` fits."""
    return PACKAGE / "default_data"
