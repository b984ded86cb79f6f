"""The run page works in a browser: it draws, it asks for nothing, it makes no error."""

import math

import numpy as np
import pytest
from browser import Browser, Visit, browsing, find_browser
from page_inputs import page_inputs

from hissbt.feeds import load_bars
from hissbt.reports.page import run_page
from hissbt.trading.guards import DrawdownGuard

ROWS = np.column_stack([np.full(120, 1e-3), np.linspace(0.4, 0.6, 120), np.full(120, 0.01)]).tolist()
EVIL = '<img src=x onerror="hacked = 1">&lt;</script><script>hacked = 1</script>'

# Of each chart: its lines and markers that have a shape, and whether they are where one can see them.
DRAWN = """
window.drawn.then(() => Object.fromEntries([...document.querySelectorAll(".plot")].map(plot => [
  plot.id,
  [...plot.querySelectorAll(".lines path, .points path")].filter(path => {
    const box = path.getBoundingClientRect();
    return path.getAttribute("d") && box.width + box.height > 1 && box.right > 0 && box.left < innerWidth;
  }).length,
])))
"""
WIDTHS = "window.drawn.then(() => [document.documentElement.scrollWidth, innerWidth])"
ZOOMED = """
window.drawn
  .then(() => Plotly.relayout("price-chart", {"xaxis.range": ["2015-01-05", "2015-02-05"]}))
  .then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))))
  .then(() => ["account-chart", "costs-chart"].map(name => document.getElementById(name).layout.xaxis.range))
"""
SORTED = """
(() => {
  const heads = [...document.querySelectorAll(".trades thead th")];
  const column = heads.findIndex(head => head.textContent === "Net");
  heads[column].click();
  return [...document.querySelectorAll(".trades tbody tr")].map(row => Number(row.children[column].dataset.key));
})()
"""


@pytest.fixture(scope="module")
def browser() -> Browser:
    with browsing() as started:
        yield started


@pytest.fixture(scope="module")
def bars():
    return load_bars("sp500")[4000:4120]


@pytest.fixture(scope="module")
def page(bars, tmp_path_factory):
    inputs = page_inputs(bars, rows=ROWS, in_sample=True, broker={"guards": (DrawdownGuard(0.02),)})
    return run_page(tmp_path_factory.mktemp("page") / "report.html", **inputs)


def all_of(**expressions: str) -> str:
    """Return JavaScript for an object of what these come to, one after the other."""
    return f"(async () => ({{{', '.join(f'{name}: await ({text})' for name, text in expressions.items())}}}))()"


@pytest.fixture(scope="module")
def wide(browser, page) -> Visit:
    return browser.visit(page, all_of(drawn=DRAWN, zoomed=ZOOMED, sorted=SORTED))


@pytest.fixture(scope="module")
def narrow(browser, page) -> Visit:
    """On a phone, in its dark theme."""
    return browser.visit(page, all_of(drawn=DRAWN, widths=WIDTHS), width=390, dark=True)


@pytest.mark.parametrize("screen", ["wide", "narrow"])
def test_every_chart_is_drawn_without_an_error_or_a_request(screen, request):
    seen = request.getfixturevalue(screen)
    assert seen.errors == []
    assert seen.requests == []
    drawn = seen.value["drawn"]
    assert drawn["price-chart"] > 10
    assert drawn["account-chart"] >= 5
    assert drawn["waterfall-chart"] >= 3
    assert drawn["costs-chart"] >= 2


def test_a_phone_need_not_scroll_sideways(narrow):
    whole, visible = narrow.value["widths"]
    assert whole <= visible == 390


def test_zooming_into_one_chart_zooms_into_all(wide):
    for first, last in wide.value["zoomed"]:
        assert (first[:10], last[:10]) == ("2015-01-05", "2015-02-05")


def test_a_click_on_a_head_sorts_the_trades(wide):
    found = wide.value["sorted"]
    assert len(found) > 1
    assert found == sorted(found, reverse=True)


def test_the_smallest_run_is_drawn_too(browser, bars, tmp_path):
    inputs = page_inputs(bars[:1])
    inputs["metrics"]["trading"] |= dict.fromkeys(("sharpe", "total_return"), math.nan)
    seen = browser.visit(run_page(tmp_path / "page.html", **inputs), DRAWN)
    assert seen.errors == []
    assert seen.value["account-chart"] > 0


def test_a_text_from_outside_never_runs(browser, bars, tmp_path):
    inputs = page_inputs(bars, reason=EVIL)
    inputs["run"] |= {"strategy": EVIL, "params": {EVIL: EVIL}}
    inputs["ledger"]["guard"] = EVIL
    inputs["ledger"][EVIL] = 1.0
    seen = browser.visit(run_page(tmp_path / "page.html", **inputs), "window.drawn.then(() => typeof hacked)")
    assert seen.errors == []
    assert seen.value == "undefined"


# --- the check itself can fail


@pytest.mark.parametrize(("required", "end"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_a_browser_a_test_skips_and_in_ci_fails(monkeypatch, required, end):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HISSBT_BROWSER_REQUIRED", required)
    with pytest.raises(end, match="no browser: install one of chromium"):
        find_browser()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("<script>throw new Error('thrown')</script>", "thrown"),
        ("<script>console.error('said', 1)</script>", "said 1"),
        ("<script>Promise.reject(new Error('rejected'))</script>", "rejected"),
        ("<script>setTimeout(() => { throw new Error('later') })</script>", "later"),
    ],
)
def test_an_error_in_a_page_is_seen(browser, tmp_path, fault, told):
    faulty = tmp_path / "page.html"
    faulty.write_text(f"<!DOCTYPE html><title>page</title>{fault}", encoding="utf-8")
    (error,) = browser.visit(faulty).errors
    assert told in error


def test_a_request_is_seen_and_on_our_page_forbidden(browser, page, tmp_path):
    request = '<img src="http://127.0.0.1:9/pixel.png">'
    faulty = tmp_path / "page.html"
    faulty.write_text(f"<!DOCTYPE html><title>page</title>{request}", encoding="utf-8")
    assert browser.visit(faulty).requests == ["http://127.0.0.1:9/pixel.png"]
    text = page.read_text(encoding="utf-8")
    faulty.write_text(
        text.replace("</header>", f"{request}<script>hacked = 1</script></header>"), encoding="utf-8"
    )
    seen = browser.visit(faulty, "window.drawn.then(() => typeof hacked)")
    assert seen.value == "undefined"
    assert sum("Content Security Policy" in error for error in seen.errors) == 2


def test_a_page_that_draws_nothing_is_seen(browser, page, tmp_path):
    empty = tmp_path / "page.html"
    text = page.read_text(encoding="utf-8")
    empty.write_text(text.replace('"data":[', '"data":[],"rest":['), encoding="utf-8")
    assert set(browser.visit(empty, DRAWN).value.values()) == {0}
