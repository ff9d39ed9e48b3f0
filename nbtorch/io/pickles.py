"""Python pickles are refused by name: opening one may run any code. Nothing here ever opens one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from nbtorch.errors import FileError

#: The mark of protocol 2 and later; before it, how the pickle of an object, a list or a dictionary begins.
_PROTOCOL = re.compile(rb"\x80[\x02-\x05]|\(*c[A-Za-z_][\w.]*\r?\n\w+\r?\n|\([ld]p\d+\r?\n|[\]}]q\x00", flags=re.ASCII)


def is_pickle(start: bytes) -> bool:
    """Whether bytes begin as a pickle of any protocol does."""
    return _PROTOCOL.match(start) is not None


def refuse_pickle(start: bytes, path: Path, remedy: str) -> None:
    """Raises FileError with ``remedy`` where the file at ``path`` begins as a pickle."""
    if is_pickle(start):
        raise FileError(
            str(path), "it is a Python pickle, which may run any code when it is opened, so it never is", remedy
        )


def refuse_dials_pickle(path: Path) -> NoReturn:
    """Raises FileError with the command that turns DIALS's pickled mask, gain or pedestal into a file of numbers."""
    raise FileError(
        str(path),
        "it is a Python pickle (what dials.generate_mask writes), which may run any code when it is opened, so it "
        "never is",
        f"Where you trust it, convert it once with DIALS: {conversion(path)}",
    )


def conversion(path: Path) -> str:
    """The command line that writes the arrays of a DIALS pickle, one a panel, as ``<name>.npz``."""
    plain = path.name.removesuffix(".gz").removesuffix(".bz2")
    opener = {".gz": "gzip.open", ".bz2": "bz2.open"}.get(path.suffix, "open")
    target = Path(plain).with_suffix(".npz").name
    return (
        "dials.python -c 'import bz2, gzip, pickle, numpy; from dxtbx import flumpy; "
        f'm = pickle.load({opener}("{path.name}", "rb")); '
        "m = m if isinstance(m, (tuple, list)) else (m,); "
        f'numpy.savez("{target}", *[flumpy.to_numpy(p) for p in m])\''
    )
