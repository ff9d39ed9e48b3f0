"""Every code block of README.md and docs/ runs, so that what we print is what works.

Python blocks of one page share a namespace and a folder, which starts empty but for a link `golden` to tests/golden.
bash and console blocks run line by line in that folder, when they call our own commands. A block that cannot run
here says why in a comment above it: `<!-- not run: reason -->`. Other languages (text, yaml, none) are only shown.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.data import ROOT
from tests.helpers.markdown import CodeBlock, code_blocks, commands
from tests.helpers.repository import relative

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = ("bash", "console", "sh")
SHOWN = ("", "text", "yaml", "json", "toml", "c", "html", "diff")
RUN_COMMANDS = ("nanoBragg", "nb-refine", "nb-trace", "nb-compare", "python")


def run_python(block: CodeBlock, page: Path, namespace: dict[str, object]) -> None:
    """Run a block so that a traceback names the page and its line."""
    source = "\n" * (block.line - 1) + block.code
    exec(compile(source, str(page), "exec"), namespace)


def shell_words(command: str, page: Path) -> tuple[list[str], Path | None]:
    """(words to run, folder or None for the page's own). A command that we do not know how to run is a failure."""
    words = shlex.split(command)
    if words[0] == "make":  # really running it would run this suite inside itself
        return ["make", "-n", *words[1:]], ROOT
    assert words[0] in RUN_COMMANDS, (
        f"{relative(page)}: '{words[0]}' is not run; mark the block <!-- not run: reason -->"
    )
    return words, None


def run_shell(command: str, page: Path, folder: Path) -> None:
    words, where = shell_words(command, page)
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(words, cwd=where or folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{relative(page)}: {command}\n{done.stdout}\n{done.stderr}"


def run_page(page: Path, folder: Path) -> int:
    """Run all that runs on ``page`` in ``folder``; how many blocks that was."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    count = 0
    for block in code_blocks(page):
        where = f"{relative(page)}:{block.line}"
        assert block.language in ("python", *SHELLS, *SHOWN), f"{where}: unknown language {block.language!r}"
        if block.not_run is not None:
            assert block.not_run, f"{where}: say why the block is not run"
            continue
        if block.language == "python":
            run_python(block, page, namespace)
        elif block.language in SHELLS:
            for command in commands(block):
                run_shell(command, page, folder)
        count += block.language not in SHOWN
    return count


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_code_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "golden").symlink_to(ROOT / "tests" / "golden")
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path)


def write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text.replace("'''", "```"))
    return page


def test_a_block_that_raises_fails_its_page_and_names_the_line(tmp_path: Path) -> None:
    page = write(tmp_path, "# Title\n\n'''python\nx = 1\n'''\n\n'''python\nx / 0\n'''\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page, tmp_path)
    assert caught.traceback[-1].lineno + 1 == 8


def test_blocks_share_a_namespace_and_marked_blocks_do_not_run(tmp_path: Path) -> None:
    marked = "<!-- not run: needs a beamline -->\n'''python\nraise SystemExit\n'''\n"
    page = write(tmp_path, f"'''python\nx = 1\n'''\n{marked}\n'''python\nassert x == 1\n'''\n")
    assert run_page(page, tmp_path) == 2


def test_a_command_that_fails_and_an_unknown_command_fail_their_page(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit"):
        run_page(write(tmp_path, "'''bash\npython -c 'exit(3)'\n'''\n"), tmp_path)
    with pytest.raises(AssertionError, match="not run"):
        run_page(write(tmp_path, "'''console\n$ curl example.org\n'''\n"), ROOT)
