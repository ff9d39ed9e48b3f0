"""Evidence: a folder that holds a comparison's outputs, what made them, and the SHA-256 of every file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbtorch import __version__
from nbtorch.errors import FileError
from nbtorch.io.atomic import write_text

SUMS = "sha256.txt"
FOLDER = "bundles"
ROOT = Path(__file__).resolve().parents[3]
_SUM_LINE = re.compile(r"^([0-9a-f]{64})  (.+)$")


@dataclass(frozen=True)
class Evidence:
    """What a bundle says. ``metadata``: run times, versions, digests of programs and inputs; ``summary``: Markdown."""

    tool: str
    commands: Sequence[Sequence[str]]
    device: str
    dtype: str
    metrics: Mapping[str, Any]
    summary: Sequence[str]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises FileError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise FileError(str(path), f"it cannot be read ({error.strerror})", "Check the file") from error


def environment(device: str, dtype: str) -> dict[str, Any]:
    """Python, torch, device, dtype, threads, and the machine's kind."""
    import torch

    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "torch": torch.__version__,
        "nbtorch": __version__,
        "device": device,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "byte_order": sys.byteorder,
    }


def git_state(folder: Path = ROOT) -> str:
    """The commit of the sources in ``folder``, and whether they are changed; or that there is none to name."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top, commit = git("rev-parse", "--show-toplevel"), git("rev-parse", "HEAD")
    if top is None or commit is None or Path(top).resolve() != folder.resolve():
        return f"no git checkout: nbtorch {__version__} as installed"
    return commit + ("\nwith uncommitted changes" if git("status", "--porcelain") else "")


def fresh_folder(tool: str, parent: Path) -> Path:
    """A new folder under ``parent``/bundles, named by date, time and ``tool``; git ignores everything in there."""
    base = parent / FOLDER
    stamp = time.strftime("%Y%m%dT%H%M%S")
    try:
        if not base.exists():
            base.mkdir(parents=True)
            write_text(base / ".gitignore", "*\n")
        for count in range(1000):
            folder = base / (f"{stamp}-{tool}" + (f"-{count}" if count else ""))
            if not folder.exists():
                folder.mkdir()
                return folder
    except OSError as error:
        raise FileError(str(base), f"no folder can be made there ({error.strerror})", "Run it elsewhere") from error
    raise FileError(str(base), "it holds a thousand bundles of this second", "Clear it")


def write_bundle(evidence: Evidence, outputs: Path, parent: Path) -> Path:
    """Copy the files in ``outputs`` into a fresh folder, add the evidence, seal it; returns the folder.

    Raises FileError when it cannot be written.
    """
    folder = fresh_folder(evidence.tool, parent)
    for source in sorted(path for path in outputs.rglob("*") if path.is_file()):
        target = folder / "outputs" / source.relative_to(outputs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    texts = {
        "commands.txt": "".join(shlex.join(words) + "\n" for words in evidence.commands),
        "env.json": _json(environment(evidence.device, evidence.dtype)),
        "git_sha.txt": git_state() + "\n",
        "run_metadata.json": _json({"written": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **evidence.metadata}),
        "metrics.json": _json(evidence.metrics),
        "summary.md": "\n".join(evidence.summary) + "\n",
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    seal(folder)
    return folder


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _files(folder: Path) -> list[str]:
    """Every file under ``folder`` but the list of sums, as it is named there."""
    paths = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(name for name in (path.relative_to(folder).as_posix() for path in paths) if name != SUMS)


def seal(folder: Path) -> Path:
    """Write sha256.txt over every file in ``folder``, as sha256sum does, and return its path."""
    return write_text(folder / SUMS, "".join(f"{digest(folder / name)}  {name}\n" for name in _files(folder)))


def verify(folder: Path) -> list[str]:
    """What is wrong with a bundle: files changed, missing or added. Empty: it is as it was sealed.

    Raises FileError when ``folder`` holds no readable list of sums.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(str(folder / SUMS), "it cannot be read", "Name the folder of a bundle") from error
    listed: dict[str, str] = {}
    for line in lines:
        match = _SUM_LINE.match(line)
        if match is None:
            return [f"{SUMS}: not a line of sha256sum: {line!r}"]
        listed[match.group(2)] = match.group(1)
    present = set(_files(folder))
    wrong = [f"{name}: missing" for name in sorted(listed.keys() - present)]
    wrong += [f"{name}: not in {SUMS}" for name in sorted(present - listed.keys())]
    return wrong + [
        f"{name}: changed" for name in sorted(listed.keys() & present) if digest(folder / name) != listed[name]
    ]
