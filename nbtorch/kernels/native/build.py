"""Compile the C kernels into one shared library: each source once per instruction set. Standard library alone.

No Python.h and no PyTorch header is included and the library is loaded with ctypes, so that it builds in seconds and
outlives upgrades of both. Run it to build beside the sources: ``python nbtorch/kernels/native/build.py``.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
LIBRARY = "libnbtorch_native"
OPTIMIZE = [
    "-std=c11",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    # nobody reads errno or floating-point traps; without them square roots and selections vectorize
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fno-tree-loop-distribute-patterns",  # GCC would clear half a kilobyte with `rep stos`, slower than a loop
    # and not -ffast-math: rounding by a large constant and the two-part ln 2 must be evaluated as written
]
INSTRUCTION_SETS: dict[str, list[str]] = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma", "-mprefer-vector-width=512"],
}
PRECISIONS = {"double": ["-DREAL=double", "-DREAL_IS_DOUBLE=1"], "float": ["-DREAL=float", "-DREAL_IS_DOUBLE=0"]}


def find_compiler(asked: str | None) -> str | None:
    """Path of the C compiler: the one asked for, $CC, or the first of cc, gcc, clang; None without one."""
    candidates = [asked] if asked else [os.environ.get("CC"), "cc", "gcc", "clang"]
    return next((path for name in candidates if name and (path := shutil.which(name))), None)


def _runs(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def supported_flags(compiler: str, work: Path) -> tuple[list[str], list[str]]:
    """(threading flags, instruction sets) that this compiler takes: OpenMP, else its vector pragmas, else neither."""
    probe = work / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    base = [compiler, str(probe), "-o", str(work / "probe")]
    threading = next((flags for flags in (["-fopenmp"], ["-fopenmp-simd"]) if _runs(base + flags)), [])
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    sets = [name for name, flags in INSTRUCTION_SETS.items() if not flags or (x86 and _runs(base + flags))]
    return threading, sets


def compile_commands(compiler: str, work: Path, threading: list[str], sets: list[str]) -> Iterator[list[str]]:
    """One command per object file."""
    common = [compiler, *OPTIMIZE, *threading, "-c"]
    for name in sets:
        flags = INSTRUCTION_SETS[name]
        of_set = [*common, *flags, f"-DSET={name}"]
        for precision, macros in PRECISIONS.items():
            suffix = f"-DSUFFIX={precision}_{name}"
            for source in ("lattice", "pixel_sum"):
                target = work / f"{source}_{precision}_{name}.o"
                yield [*of_set, *macros, suffix, str(SOURCES / f"{source}.c"), "-o", str(target)]
        for source in ("rays", "profile"):
            yield [*of_set, str(SOURCES / f"{source}.c"), "-o", str(work / f"{source}_{name}.o")]
    with_sets = [f"-DWITH_{name.upper()}" for name in sets if name != "baseline"]
    yield [*common, *with_sets, str(SOURCES / "dispatch.c"), "-o", str(work / "dispatch.o")]


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")


def build(output_dir: Path, compiler: str | None = None) -> Path | None:
    """Compile into ``output_dir`` and return the library's path; None when there is no C compiler.

    Raises RuntimeError with the compiler's words when it refuses the sources.
    """
    found = find_compiler(compiler)
    if found is None:
        return None
    output = Path(output_dir) / f"{LIBRARY}{'.dylib' if sys.platform == 'darwin' else '.so'}"
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".native-") as scratch:
        work = Path(scratch)
        threading, sets = supported_flags(found, work)
        commands = list(compile_commands(found, work, threading, sets))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(_compile, commands))
        linked = work / output.name
        objects = [command[-1] for command in commands]
        _compile([found, "-shared", *threading, *objects, "-lm", "-o", str(linked)])
        linked.replace(output)  # never a half-written library under the final name
    return output


if __name__ == "__main__":
    library = build(SOURCES)
    if library is None:
        sys.exit("No C compiler was found. Install one (Debian: apt-get install gcc), or pass its name in CC.")
    print(library)
