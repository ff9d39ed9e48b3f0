"""The compiled library: found beside the sources, loaded with ctypes, refused when it is of another version."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nbtorch.errors import ConfigError

DIRECTORY = Path(__file__).resolve().parent
HOW_TO_GET_IT = (
    "Install a C compiler (Debian: apt-get install gcc) and install nbtorch again; "
    "in a checkout: python -m nbtorch.kernels.native.build"
)

_int, _float, _array = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class LatticeArgs(ctypes.Structure):
    """``struct lattice_args`` of lattice.h, field by field."""

    _fields_ = (
        *_fields(_int, "n_pixels n_sources n_orientations n_threads shape interpolation"),
        ("first", _int * 3),
        ("count", _int * 3),
        *_fields(_float, "default_F dmin culling"),
        *_fields(_array, "diffracted incident wavelength basis n_cells metric weight table value grad"),
        *_fields(_array, "grad_diffracted grad_incident grad_wavelength"),
        *_fields(_array, "grad_basis grad_n_cells grad_metric grad_weight grad_table"),
        ("n_tangents", _int),
        *_fields(_array, "dot_diffracted dot_incident dot_wavelength"),
        *_fields(_array, "dot_basis dot_n_cells dot_metric dot_weight dot_table tangent"),
    )


class RayInputs(ctypes.Structure):
    """``struct ray_inputs`` of rays.h, field by field."""

    _fields_ = (
        *_fields(_array, "frame pixel_size absorption incident along_e along_b kahn fast slow depth layer layer_step"),
    )


class RayArgs(ctypes.Structure):
    """``struct ray_args`` of rays.h, field by field."""

    _fields_ = (
        *_fields(_int, "n_samples n_sources n_panels n_threads point_pixel polarized layers oversample"),
        *_fields(_array, "panel slow fast"),
        ("inputs", RayInputs),
        *_fields(_array, "diffracted weight grad_diffracted grad_weight"),
        ("grad", RayInputs),
        ("n_tangents", _int),
        ("dot", RayInputs),
        *_fields(_array, "dot_diffracted dot_weight"),
    )


class PixelSumArgs(ctypes.Structure):
    """``struct pixel_sum_args`` of pixel_sum.h, field by field."""

    _fields_ = (
        ("lattice", LatticeArgs),
        ("rays", RayArgs),
        *_fields(_array, "source_weight value grad grad_source_weight"),
    )


class ProfileInputs(ctypes.Structure):
    """``struct profile_inputs`` of profile.h, field by field."""

    _fields_ = (
        *_fields(_array, "frame pixel_size absorption layer_step incident along_e along_b kahn source_weight"),
        *_fields(_array, "wavelength bandwidth divergence basis mosaic spindle intrinsic cell pixel scale table"),
    )


class ProfileArgs(ctypes.Structure):
    """``struct profile_args`` of profile.h, field by field."""

    _fields_ = (
        *_fields(_int, "n_pixels n_panels n_sources n_pieces n_threads layers oversample"),
        *_fields(_int, "point_pixel polarized iterated divergence place"),
        *((name, _int * 3) for name in ("reach", "first", "count")),
        *_fields(_float, "default_F dmin span cut"),
        *_fields(_array, "panel slow fast"),
        ("inputs", ProfileInputs),
        *_fields(_array, "value grad"),
        ("to", ProfileInputs),
        ("n_tangents", _int),
        ("dot", ProfileInputs),
        *_fields(_array, "tangent"),
    )


def _open() -> tuple[ctypes.CDLL | None, str]:
    """The library beside this file, or None and the reason why there is none to use."""
    paths = sorted(DIRECTORY.glob("libnbtorch_native.*"))
    if not paths:
        return None, "the C kernels were not compiled"
    library = ctypes.CDLL(str(paths[0]))
    library.nbt_instruction_set.restype = ctypes.c_char_p
    library.nbt_current_set.restype = ctypes.c_char_p
    mirrors = {
        "lattice_args": LatticeArgs,
        "ray_args": RayArgs,
        "pixel_sum_args": PixelSumArgs,
        "profile_args": ProfileArgs,
    }
    sizes = {name: getattr(library, f"nbt_{name}_size", None) for name in mirrors}
    if any(size is None or size() != ctypes.sizeof(mirrors[name]) for name, size in sizes.items()):
        return None, "the C kernels were compiled from other sources"
    return library, ""


# Opened on import, in less than a millisecond, so that a traced program finds a plain value
LIBRARY, WHY_ABSENT = _open()
AVAILABLE = LIBRARY is not None


def require() -> ctypes.CDLL:
    """The library. Raises ConfigError, with the way to get it, when it is absent."""
    if LIBRARY is None:
        raise ConfigError("backend='native'", WHY_ABSENT, HOW_TO_GET_IT)
    return LIBRARY


def instruction_sets() -> dict[str, bool]:
    """The instruction sets the library was compiled for, plainest first, and whether this machine executes them."""
    library = require()
    names: list[bytes] = []
    while name := library.nbt_instruction_set(len(names)):
        names.append(name)
    return {name.decode(): bool(library.nbt_can_execute(name)) for name in names}


def use_instruction_set(name: str) -> str:
    """Use ``name`` from now on, in the whole process; returns the set used before. For tests and measurements."""
    library = require()
    before: str = library.nbt_current_set().decode()
    if library.nbt_use_set(name.encode()):
        usable = ", ".join(known for known, runs in instruction_sets().items() if runs)
        raise ConfigError(f"instruction set {name!r}", "it is not compiled or not executable here", f"Use: {usable}")
    return before


def check_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError where a tensor has another shape than the C code will read."""
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name]:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}; beside the others it must be {shapes[name]}")


def as_double(tensor: Tensor) -> Tensor:
    """``tensor`` as the C code wants it: float64, contiguous, on the CPU."""
    return tensor.detach().to(torch.float64).contiguous()


class Arguments:
    """Fills a ctypes structure from tensors, and keeps every tensor alive for as long as C may read it."""

    def __init__(self, structure: ctypes.Structure, owner: Arguments | None = None) -> None:
        self.structure = structure
        # a structure inside another lives in its owner's memory, so its tensors live with the owner too
        self._alive: list[Tensor] = [] if owner is None else owner._alive

    def integers(self, **values: int | Sequence[int]) -> None:
        """Set integer fields; a sequence of three fills an array field."""
        for name, value in values.items():
            setattr(self.structure, name, value if isinstance(value, int) else (_int * 3)(*value))

    def give(self, **tensors: Tensor | None) -> None:
        """Hand over inputs, converted where they must be; None stays NULL."""
        for name, tensor in tensors.items():
            if tensor is not None:
                self.result(**{name: as_double(tensor)})

    def result(self, **tensors: Tensor) -> None:
        """Hand over contiguous tensors as they are, for C to fill or to read."""
        for name, tensor in tensors.items():
            self._alive.append(tensor)
            setattr(self.structure, name, tensor.data_ptr())
