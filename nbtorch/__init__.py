"""nanoBragg as a differentiable PyTorch model. Names are imported when they are first used, so this stays light."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbtorch.config import (
        BeamConfig,
        CrystalConfig,
        DetectorConfig,
        Exposure,
        GoniometerConfig,
        MosaicConfig,
        PanelConfig,
        RenderSettings,
        ScanConfig,
    )
    from nbtorch.models import Beam, Crystal, Detector, Experiment, Spreads, StructureFactors
    from nbtorch.render import Renderer
    from nbtorch.spreads import SpreadConfig

__version__ = "0.1.0"

_HOMES = {
    "nbtorch.config": (
        "BeamConfig",
        "CrystalConfig",
        "DetectorConfig",
        "Exposure",
        "GoniometerConfig",
        "MosaicConfig",
        "PanelConfig",
        "RenderSettings",
        "ScanConfig",
    ),
    "nbtorch.models": ("Beam", "Crystal", "Detector", "Experiment", "Spreads", "StructureFactors"),
    "nbtorch.render": ("Renderer",),
    "nbtorch.spreads": ("SpreadConfig",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Beam",
    "BeamConfig",
    "Crystal",
    "CrystalConfig",
    "Detector",
    "DetectorConfig",
    "Experiment",
    "Exposure",
    "GoniometerConfig",
    "MosaicConfig",
    "PanelConfig",
    "RenderSettings",
    "Renderer",
    "ScanConfig",
    "SpreadConfig",
    "Spreads",
    "StructureFactors",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nbtorch' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
