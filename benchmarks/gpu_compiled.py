"""What the Triton kernels become for cards that need not be there: registers, spills and shared memory of each.

    python benchmarks/gpu_compiled.py            # a table; JSON beside it with --json FILE

Each kernel is compiled with ptxas for compute capabilities 8.0, 9.0 and 10.0, in double and fast precision, for every
shape. A spill (local memory) means that a program holds more numbers than the card has registers for.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nbtorch.kernels.gpu import lattice_kernels, launch

CAPABILITIES = (80, 90, 100)
SHAPES = ("square", "round", "gauss", "tophat")
TABLES = ("no table", "nearest", "tricubic")
_INTEGERS = {"pairs", "pixels", "sources", "orientations", "tangents", "start"}
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def kernels() -> dict[str, Any]:
    """The kernels by name, as Triton holds them."""
    return {name: getattr(lattice_kernels, f"{name}_kernel") for name in ("value", "gradient", "tangent")}


def compiled(name: str, capability: int, shape: int, kind: int, real: str) -> dict[str, Any]:
    """Registers, spilled bytes and shared memory of one kernel."""
    kernel = kernels()[name]
    constants = {"SHAPE": shape, "KIND": kind, "REAL": getattr(triton.language, real), "BLOCK": launch.BLOCK}
    if name == "tangent":
        constants["T"] = launch.TANGENTS["tricubic" if TABLES[kind] == "tricubic" else "nearest"]
    signature = {
        argument: "constexpr" if argument in constants else "i64" if argument in _INTEGERS else "*fp64"
        for argument in kernel.arg_names
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    registers, _, _, local = _resources(made.asm["cubin"])
    return {"registers": registers, "spilled_bytes": local, "shared_bytes": made.metadata.shared}


def _resources(cubin: bytes) -> tuple[int, ...]:
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(folder / "cuobjdump"), "--dump-resource-usage", file.name]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = _RESOURCES.search(printed)
    if found is None:
        raise RuntimeError(f"cuobjdump printed no resources: {printed}")
    registers, stack, shared, local = (int(value) for value in found.groups())
    return registers, stack, shared, max(stack, local)


def rows(capabilities: tuple[int, ...], tables: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """One row a kernel, capability, shape, table and precision."""
    for name in kernels():
        for capability in capabilities:
            for shape, shape_name in enumerate(SHAPES):
                for table in tables:
                    for real in ("float64", "float32"):
                        found = compiled(name, capability, shape, TABLES.index(table), real)
                        what = {"kernel": name, "sm": capability, "shape": shape_name, "table": table, "lanes": real}
                        yield what | found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows there")
    parser.add_argument("--sm", type=int, nargs="*", default=list(CAPABILITIES))
    parser.add_argument("--tables", nargs="*", default=list(TABLES), choices=TABLES)
    given = parser.parse_args()
    found = []
    columns = ("kernel", "sm", "shape", "table", "lanes", "registers", "spilled_bytes", "shared_bytes")
    print(" ".join(f"{name:>13s}" for name in columns))
    for row in rows(tuple(given.sm), tuple(given.tables)):
        found.append(row)
        print(" ".join(f"{row[name]!s:>13s}" for name in columns), flush=True)
    if given.json:
        text = json.dumps({"triton": triton.__version__, "rows": found}, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
