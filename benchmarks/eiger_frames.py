"""Claim: an image of a long HDF5 series costs what one image costs, in time and in memory.

Writes an Eiger 16M master with data files of 100 images (unsigned 32 bit, bitshuffle/LZ4), reads all images one after
the other and prints seconds an image and the peak memory after the first and after the last. It needs about 1 GiB of
disk: python benchmarks/eiger_frames.py [images] [folder]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from nbtorch.io import list_frames, read_frame

SHAPE = (4362, 4148)
PER_FILE = 100


def write_series(folder: Path, count: int) -> Path:
    """A master and its data files: a Poisson background of one photon, the same three images over and over."""
    rng = np.random.default_rng(1)
    images = [rng.poisson(1.0, SHAPE).astype(np.uint32) for _ in range(3)]
    master = folder / "run_master.h5"
    with h5py.File(master, "w") as head:
        group = head.create_group("entry/data")
        group.attrs["NX_class"] = "NXdata"
        for number, start in enumerate(range(0, count, PER_FILE), 1):
            name = f"run_data_{number:06d}.h5"
            with h5py.File(folder / name, "w") as file:
                held = min(PER_FILE, count - start)
                data = file.create_dataset(
                    "entry/data/data", (held, *SHAPE), "u4", chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4")
                )
                for index in range(held):
                    data[index] = images[index % len(images)]
            group[f"data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
    return master


def peak() -> float:
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write in a process of its own (its memory is not ours), read here, print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        with ProcessPoolExecutor(1) as writer:
            master = writer.submit(write_series, Path(folder), count).result()
        start = time.perf_counter()
        refs = list_frames(master)
        listed = time.perf_counter() - start
        written, marks, total = peak(), {}, 0
        start = time.perf_counter()
        for number, ref in enumerate(refs, 1):
            total += int(np.asarray(read_frame(ref).counts)[0, 0])
            if number in (1, 10, count // 2, count):
                marks[number] = peak()
        seconds = (time.perf_counter() - start) / count
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 2**20
    print(f"{count} images, {size:.0f} MiB on disk; listed in {listed * 1e3:.1f} ms; {seconds * 1e3:.0f} ms an image")
    print(f"peak MiB before {written:.0f}, then after image", marks, "checksum", total)


if __name__ == "__main__":
    main()
