"""The report as a browser shows it: every drawing is there, clicks select, tables sort, broken data are said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refine.report.report import render
from refine.report.result import Finding
from tests.helpers.browser import opened
from tests.refine import fake
from tests.refine.report.test_report import nothing

pytestmark = pytest.mark.timeout(120)
DRAWINGS = ("viewer", "card", "residuals", "z", "solid", "gallery", "spot-table", "convergence-loss", "correlation")


def written(folder: Path, finding: Finding) -> Path:
    path = folder / "report.html"
    path.write_text(render(finding), encoding="utf-8")
    return path


def test_every_drawing_is_made_and_a_spot_can_be_chosen_everywhere(tmp_path: Path) -> None:
    with opened(written(tmp_path, fake.finding())) as (page, complaints):
        for name in DRAWINGS:
            assert page.locator(f"#{name} > *").count() > 0, name
        assert "could not be made" not in page.inner_text("main")
        chosen = page.locator("#card h3")
        page.locator("#spots tbody tr").nth(3).click()
        first = chosen.inner_text()
        assert first == page.locator("#spots tbody tr").nth(3).locator("td").first.inner_text()
        assert page.locator("#card canvas.pixels").count() == 3 + 9  # summed; and three frames of three
        page.locator("#residuals circle.pick").nth(4).click()
        assert chosen.inner_text() != first
        page.locator("#gallery button.spot").last.click()
        assert chosen.inner_text() in page.locator("#gallery button.spot").last.inner_text()
        page.locator("canvas.view").focus()
        before = chosen.inner_text()
        for key in ("n", "+", "ArrowLeft", "-", "0"):
            page.keyboard.press(key)
        assert chosen.inner_text() != before
        assert complaints == []


def test_the_picture_shows_the_frame_and_a_click_on_it_selects_the_spot_there(tmp_path: Path) -> None:
    with opened(written(tmp_path, fake.finding())) as (page, complaints):
        page.evaluate("nb.viewer.canvas.scrollIntoView()")
        page.wait_for_function("[...nb.viewer.tinted.values()].every((held) => held.ready)")
        spot, x, y = page.evaluate(
            """() => { const viewer = nb.viewer, s = viewer.data.spots, i = s.state.indexOf(0);
                 const box = viewer.canvas.getBoundingClientRect();
                 const at = viewer.screen(s.panel[i], s.observed_fast_px[i], s.observed_slow_px[i]);
                 return [i, box.left + at[0], box.top + at[1]]; }"""
        )
        page.mouse.click(x, y)
        assert page.evaluate("nb.selected") == spot
        # the masked rows at the top of the first panel have the colour of what was not measured
        hole = page.evaluate(
            """() => { const v = nb.viewer, at = v.screen(0, 100, 6), k = window.devicePixelRatio;
                 return [...v.canvas.getContext("2d").getImageData(at[0] * k, at[1] * k, 1, 1).data]; }"""
        )
        assert hole == [205, 213, 224, 255]
        assert complaints == []


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace("−", "-")) for text in texts]


def test_tables_sort_by_numbers_and_filter_by_words(tmp_path: Path) -> None:
    with opened(written(tmp_path, fake.finding())) as (page, complaints):
        page.locator("#spots th", has_text="counts").click()
        counts = [
            int(text.replace("−", "-")) for text in page.locator("#spots tbody td:nth-child(6)").all_inner_texts()
        ]
        assert counts == sorted(counts)
        page.locator("#spot-table select").select_option("2")
        assert page.locator("#spots tbody tr").count() == 1
        assert "overlaps (1 0 3)" in page.locator("#spots tbody tr").inner_text()
        table = page.locator("table.sortable").first
        table.locator("th", has_text="after").click()
        values = numbers(table.locator("td:nth-child(3)").all_inner_texts())
        assert values == sorted(values)
        assert complaints == []


@pytest.mark.parametrize(("width", "dark"), [(420, False), (1600, True)])
def test_it_fits_narrow_and_wide_windows_by_day_and_by_night(tmp_path: Path, width: int, dark: bool) -> None:
    with opened(written(tmp_path, fake.finding()), width=width, dark=dark) as (page, complaints):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(18, 23, 30)") == dark
        assert complaints == []


def test_a_fit_that_left_nothing_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    finding = replace(fake.finding(truth=False), outcome=nothing(fake.outcome(converged=False)))
    with opened(written(tmp_path, finding)) as (page, complaints):
        assert "Did not converge" in page.inner_text("main")
        assert page.locator("#gallery").is_hidden()
        assert complaints == []


def test_broken_data_are_said_and_the_tables_stay(tmp_path: Path) -> None:
    path = written(tmp_path, fake.finding())
    text = path.read_text(encoding="utf-8")
    start = text.index('id="data">') + len('id="data">')
    path.write_text(text[: start + 40] + text[start + 4000 :], encoding="utf-8")
    with opened(path) as (page, _):
        assert "cannot be read" in page.locator("#broken").inner_text()
        assert page.locator("table.sortable").first.is_visible()


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "<img src=x onerror=document.title=1>'\"`${1}</script>.cbf"
    outcome = fake.outcome()
    hostile = replace(
        outcome,
        frames=(replace(outcome.frames[0], path=name),),
        frame_pictures=tuple(replace(row, name=name) for row in outcome.frame_pictures * 2),
        spots=tuple(replace(row, reason=name if row.reason else "") for row in outcome.spots),
    )
    with opened(written(tmp_path, replace(fake.finding(), outcome=hostile))) as (page, complaints):
        page.evaluate("nb.viewer.shown.rejected = true; nb.select(nb.viewer.data.spots.state.indexOf(2))")
        assert name in page.locator("#card").inner_text()
        assert page.locator("img[src=x]").count() == 0
        assert page.title().startswith("nb-refine")
        assert complaints == []
