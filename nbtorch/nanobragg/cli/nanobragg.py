"""The command ``nanoBragg``: flags in, images out. Help and usage errors load nothing heavy."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from nbtorch.errors import ConfigError, GeometryError, NbtorchError
from nbtorch.nanobragg.cli.parsing import UsageError, help_text, parse

USAGE, FAILED = 2, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 for files or data that cannot be used, 2 for a wrong command line."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words:
            raise UsageError("nanoBragg", "it was called without flags", "nanoBragg -h lists them")
        parsed = parse(words)
        if parsed.values.get("help"):
            _show(help_text())
            return 0
        for name in parsed.ignored:
            print(f"warning: {name} has no effect: the original accepts it and does nothing with it", file=sys.stderr)
        from nbtorch.nanobragg.cli.simulate import simulate  # torch is imported here, after help and usage errors

        simulate(parsed)
    except (UsageError, ConfigError, GeometryError) as error:
        print(f"nanoBragg: {error}", file=sys.stderr)
        return USAGE
    except NbtorchError as error:
        print(f"nanoBragg: {error}", file=sys.stderr)
        return FAILED
    return 0


def _show(text: str) -> None:
    """Print ``text``; a reader that closes early, such as ``head``, has seen enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # what Python flushes at its end must not fail either
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  it lives as long as the process


if __name__ == "__main__":
    sys.exit(main())
