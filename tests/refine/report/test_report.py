"""The report: one file that a browser opens anywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from refine.records.outcome import Goodness, Outcome
from refine.report import numbers
from refine.report.report import render
from refine.report.result import Finding
from tests.refine import fake

VOID = {"meta", "img", "br", "link", "input", "hr", "path", "use", "rect", "circle"}


class Balanced(HTMLParser):
    """Fails on a tag that closes another; collects text and references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(finding: Finding) -> Balanced:
    page = Balanced()
    page.feed(render(finding))
    page.close()
    return page


def test_the_page_is_well_formed_and_refers_to_nothing_outside_itself() -> None:
    page = parsed(fake.finding())
    assert page.open == []
    assert page.references
    assert all(reference.startswith("#") for reference in page.references)
    assert "http" not in render(fake.finding()).replace("http://www.w3.org/2000/svg", "")


def test_the_page_tells_everything_that_was_found() -> None:
    text = re.sub(r"\s+", " ", " ".join(parsed(fake.finding()).text))
    for expected in (
        "Converged, with remarks",
        "detector.detector.shift_normal + 0.0063·crystal[0].a",
        "not determined",
        "at a bound",
        "follows crystal[0].a",
        "overlaps (… … …)",
        "the file ends before its data",
        "crystal.n_cells = 21.0, 20.0, 24.0: from the spots' width",
        "Against the truth",
        "Assumed: nobody stated it",
        "spot shape gauss_hkl nothing says which",
        "400, 20, 24",
        "these pairs move together".capitalize(),
        "torch 2.13.0",
        "ab" * 32,
        "not there any more",
    ):
        assert expected in text, expected


def test_text_from_outside_is_escaped() -> None:
    page = render(fake.finding())
    assert "nb-refine data.experiment=&#39;a &lt;b&gt; &amp; c.expt&#39;" in page
    frames = (replace(fake.outcome().frames[1], message="<script>alert(1)</script>", path="<img src=x>.cbf"),)
    hostile = replace(fake.finding(), outcome=replace(fake.outcome(), frames=frames))
    assert "<script>alert" not in render(hostile)
    assert "<img src=x>" not in render(hostile)


def test_the_same_finding_is_the_same_page() -> None:
    assert render(fake.finding()) == render(fake.finding())


def nothing(outcome: Outcome) -> Outcome:
    return replace(
        outcome,
        parameters=(),
        undetermined=(),
        correlation=None,
        history=(),
        spots=(),
        frames=(),
        frame_pictures=(),
        spot_boxes=(),
        goodness=Goodness(),
        rms_start_px=None,
        rms_end_px=None,
        rms_heldout_px=None,
        journal=(),
    )


def test_a_fit_that_left_nothing_still_has_a_page() -> None:
    page = parsed(replace(fake.finding(truth=False), outcome=nothing(fake.outcome(converged=False))))
    assert page.open == []
    assert "Did not converge" in " ".join(page.text)


@pytest.mark.parametrize(
    ("stopped", "converged", "word"), [("SIGINT", True, "Stopped by SIGINT"), ("", False, "Did not converge")]
)
def test_the_verdict_comes_first(stopped: str, converged: bool, word: str) -> None:
    page = render(fake.finding(converged=converged, stopped_by=stopped))
    assert re.search(r'<h1 class="bad">(.*?)</h1>', page)[1] == word  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "sigma", "text"),
    [
        (0.81234, 0.0021, "0.8123 ± 0.0021"),
        (-0.81234, 0.21, "−0.81 ± 0.21"),
        (79.081, 12.0, "79 ± 12"),
        (79.081234567, None, "79.0812"),
        (1.5, float("inf"), "1.5"),
        (float("nan"), None, "—"),
    ],
)
def test_a_value_has_the_digits_that_its_sigma_deserves(value: float, sigma: float | None, text: str) -> None:
    assert numbers.with_sigma(value, sigma) == text
