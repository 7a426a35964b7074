"""The report page in a real Chromium."""

from __future__ import annotations

import shutil
from itertools import pairwise

import pytest
from playwright.sync_api import sync_playwright

from analysis.report import main
from study.config.questions import QUESTIONS
from tests.helpers.compared import write_comparison
from tests.test_hostile_page import hostile_folders

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, mnist):
    root = tmp_path_factory.mktemp("results")
    folders = [
        write_comparison(root / kind, QUESTIONS[kind].select(None), replicates=3).results.path
        for kind in ("batch-size", "models", "schedule")
    ]
    out = root / "report"
    assert main([*map(str, folders), "--output", str(out)]) == 0
    alone = root / "elsewhere" / "report.html"  # without the files beside it
    alone.parent.mkdir()
    shutil.copy(out / "report.html", alone)
    return alone


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    assert chromium, "install Debian's package chromium; .ci/run does"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, page_file):
    """Opens the page, and checks afterwards that it wrote nothing to console or network."""
    contexts, said = [], []

    def open_it(width=1280, height=900, **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, offline=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(request.url))
        page.goto(page_file.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert said == []


@pytest.mark.parametrize("width", [360, 390, 768, 1280, 1920])
def test_nothing_overflows_and_every_figure_is_seen(open_page, width):
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) > 12
    assert all(box["width"] > 250 and box["height"] > 60 for box in boxes)
    images = "[...document.querySelectorAll('svg image')].length"
    assert page.evaluate(images) == 24  # three galleries of eight


def rows(page):
    return page.locator("#ledger tbody tr:visible td:first-child").all_inner_texts()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_ledger_filters_by_verdict_and_words(open_page, width):
    page = open_page(width)
    assert rows(page) == [f"C{i}" for i in range(1, 22)]
    page.select_option("#verdict", "not testable as written")
    assert rows(page) == ["C11", "C12", "C14", "C21"]
    assert page.inner_text("#shown") == "4 of 21 claims shown"
    page.fill("#words", "human")
    assert rows(page) == ["C14"]
    page.select_option("#verdict", "")
    page.fill("#words", "")
    assert len(rows(page)) == 21


def test_the_ledger_sorts_by_keyboard(open_page):
    page = open_page()
    page.locator("#ledger th button").first.focus()
    page.keyboard.press("Enter")
    assert rows(page)[:3] == ["C1", "C2", "C3"]  # by number, not by letter
    page.keyboard.press("Enter")
    assert rows(page)[0] == "C21"
    head = page.locator("#ledger th").first
    assert head.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # the verdicts
    verdicts = page.locator("#ledger tbody .verdict").all_inner_texts()
    assert verdicts == sorted(verdicts)
    assert head.get_attribute("aria-sort") is None


def luminance(page, selector, what):
    colour = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{what}")
    return sum(float(x) for x in colour[4:-1].split(",")[:3]) / (3 * 255)


def test_light_and_dark_follow_the_reader_in_page_and_figures(open_page):
    for scheme, dark in (("light", False), ("dark", True)):
        page = open_page(color_scheme=scheme)
        assert (luminance(page, "body", "backgroundColor") < 0.5) == dark
        assert (luminance(page, "figure svg text", "fill") > 0.5) == dark


def test_links_lead_to_figures_and_numbers_come_along(open_page, tmp_path):
    page = open_page()
    page.click("#C6 a.anchors")
    assert page.evaluate("location.hash") == "#loss_noise"
    seen = "document.querySelector('#loss_noise').getBoundingClientRect().top < innerHeight"
    page.wait_for_function(seen)
    with page.expect_download() as download:
        page.click("a[download='loss_noise.csv']")
    path = tmp_path / "loss_noise.csv"
    download.value.save_as(path)
    assert path.read_text().startswith("arm,replicate,batch_size,sd,level")


def test_the_first_screen_answers(open_page):
    page = open_page(1280, 1000)
    assert page.inner_text("h1").startswith("64 against 512")
    for selector in (".lead", "figure svg", ".chips"):
        box = page.locator(selector).first.bounding_box()
        assert box
        assert box["y"] + box["height"] <= 1000, selector


def test_it_prints_without_controls(open_page, tmp_path):
    page = open_page()
    page.emulate_media(media="print")
    assert not page.is_visible(".tools")
    assert not page.is_visible("nav")
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").stat().st_size > 50_000


def test_without_scripts_the_ledger_is_whole(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("#ledger tbody tr").count() == 21
    assert not page.is_visible(".tools")


def test_what_a_screen_reader_gets(open_page):
    page = open_page()
    assert page.evaluate(
        "[...document.querySelectorAll('svg')].filter(s => s.closest('figure'))"
        ".every(s => s.getAttribute('aria-label')?.length > 5)"
    )
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert page.get_by_role("columnheader", name="Verdict").count() == 1


def test_no_text_from_outside_becomes_script_or_element(browser, tmp_path):
    """Markup in titles, folders, arms' trials, errors, devices, versions and commands."""
    folders = hostile_folders(tmp_path / "results")
    out = tmp_path / "out"
    assert main([*map(str, folders), "--output", str(out)]) == 0
    context = browser.new_context(offline=True)
    page, said = context.new_page(), []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: said.append(request.url))
    drawings = sorted((out / "figures").glob("*.svg"))
    assert len(drawings) > 10
    for file in (out / "report.html", *drawings):
        said.clear()
        page.goto(file.as_uri())
        page.wait_for_load_state()
        assert [text for text in said if text != file.as_uri() and text != "data:,"] == []
        attributes = page.evaluate(
            "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes])"
            ".filter(a => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value))"
            ".map(a => a.name + '=' + a.value)"
        )
        assert attributes == []
        assert page.locator("img, iframe, object, embed, foreignObject").count() == 0
        assert page.locator("script").count() == (file.suffix == ".html")  # the ledger's own
    context.close()
