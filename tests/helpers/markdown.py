"""Code blocks of a Markdown page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?P<fence>```+|~~~+)(?P<language>[\w+-]*)[^`]*$")
NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>.*?)\s*-->")


@dataclass(frozen=True)
class CodeBlock:
    """One fenced block. ``line`` counts from 1 and is that of its first line of code."""

    language: str
    code: str
    line: int
    not_run: str | None  # the reason given in a comment just above the fence


def code_blocks(page: Path) -> list[CodeBlock]:
    """The fenced code blocks of ``page``, in order. An unclosed fence is a ValueError."""
    blocks: list[CodeBlock] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number, reason = 0, None
    while number < len(lines):
        line = lines[number]
        number += 1
        opening = FENCE.match(line)
        if opening is None:
            reason = _reason(line, reason)
            continue
        start = number
        while number < len(lines) and lines[number].rstrip() != opening["fence"]:
            number += 1
        if number == len(lines):
            raise ValueError(f"{page}: the code block opened in line {start} is not closed")
        blocks.append(CodeBlock(opening["language"], "\n".join(lines[start:number]) + "\n", start + 1, reason))
        number, reason = number + 1, None
    return blocks


def _reason(line: str, before: str | None) -> str | None:
    """A marker holds until the next line of text; blank lines may stand between it and its block."""
    marker = NOT_RUN.search(line)
    if marker:
        return marker["reason"]
    return None if line.strip() else before


def commands(block: CodeBlock) -> list[str]:
    """The commands of a bash or console block: continued lines joined, comments and printed output left out."""
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    found = (re.sub(r"\s+#\s.*$", "", line).strip() for line in lines)
    return [command for command in found if command and not command.startswith("#")]
