"""The true values of a simulated experiment are read whole, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbtorch.errors import DataError
from refine.report.result import read_truth


def test_values_by_name(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text('{"parameters": {"crystal[0].a": 23}}')
    assert read_truth(tmp_path / "truth.json") == {"crystal[0].a": 23.0}


@pytest.mark.parametrize(
    "text", ["[]", '{"parameters": 3}', '{"parameters": {"a": "x"}}', '{"parameters": {"a": NaN}}']
)
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(DataError, match=r"data\.truth"):
        read_truth(tmp_path / "truth.json")
