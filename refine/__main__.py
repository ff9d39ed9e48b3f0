"""The command ``nb-refine`` (``python -m refine``)."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from nbtorch import __version__
from nbtorch.errors import ConfigError, NbtorchError
from refine.settings.overrides import prepare

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
# Hydra's options that would run or unpickle what somebody else wrote, or that name our own files.
REFUSED = ("--experimental-rerun", "--config-path", "-cp", "--config-name", "-cn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 it could not be done, 2 the command line is wrong, 3 the fit
    has failed by its verdict, its results being kept."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given)
    except KeyboardInterrupt:
        print("nb-refine: interrupted; nothing had been fitted yet", file=sys.stderr)
        return EXIT_INTERRUPTED
    except NbtorchError as error:
        return fail(error, shown=_wants_traceback(given))


def _dispatch(given: list[str]) -> int:
    if given[:1] == ["compare"]:
        from refine.commands.compare_command import main as compare

        return compare(given[1:])
    if given[:1] == ["batch"]:
        from refine.commands.batch_command import main as batch

        return batch(given[1:])
    if "--version" in given:
        print(f"nb-refine {__version__}")
        return 0
    for argument in given:
        if argument.split("=")[0] in REFUSED:
            raise ConfigError(argument, "nb-refine does not take this option of Hydra's", "Leave it out")
    from refine.commands.launch import launch

    wanted = [argument for argument in given if argument != "--check"]
    if "--check" in given:
        wanted.append("check=true")
    return launch(prepare(wanted), given)


def fail(error: NbtorchError, *, shown: bool) -> int:
    """Print what went wrong in one paragraph, after the traceback when it is ``shown``; the exit code."""
    if shown:
        traceback.print_exception(error)
    print(f"nb-refine: {error}", file=sys.stderr)
    return EXIT_FAILED


def _wants_traceback(given: Sequence[str]) -> bool:
    asked = {"debug=fast", "debug.traceback=true"} & set(given)
    return bool(asked) or os.environ.get("NBTORCH_TRACEBACK") == "1"


if __name__ == "__main__":
    sys.exit(main())
