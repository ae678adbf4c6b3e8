"""The view "Try it" of the page Models: drawings, files and samples, and what all champions answer."""

import io
import re

import pytest
from PIL import Image, ImageOps
from playwright.sync_api import expect

from serving.models_api.body import MOST_BYTES
from tests.e2e.browser import logged_in
from tests.e2e.shared.models_page import MNIST, SEVEN_IS, SOME_LABEL, answer, draw, drop, show, verdict
from train_server.lenet5.model import LENET5
from windtunnel.settings import ROOT

pytestmark = [pytest.mark.minutes(1), pytest.mark.usefixtures("champions")]

NAMES = [f"lenet5-{framework}" for framework in LENET5.default_frameworks]
SEVEN = ((70, 70), (200, 70), (130, 220))
AGREED = "All 3 answer 7." if MNIST else re.compile(r"^(All 3 answer [\w /-]+\.|The champions disagree: .*)$")
JUDGED = "✓ right" if MNIST else re.compile("right|wrong")
DIGIT = {"name": "digit.png", "mimeType": "image/png", "buffer": (ROOT / "img" / "digit.png").read_bytes()}


def bar(kind="PNG"):
    """A picture of a white bar."""
    stream = io.BytesIO()
    picture = Image.new("L", (28, 28))
    picture.paste(255, (12, 4, 16, 24))
    picture.save(stream, kind)
    return {"name": f"bar.{kind.lower()}", "mimeType": f"image/{kind.lower()}", "buffer": stream.getvalue()}


def on_paper(name):
    """A picture of the project, dark on white."""
    stream = io.BytesIO()
    ImageOps.invert(Image.open(ROOT / "img" / name)).save(stream, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": stream.getvalue()}


def test_what_is_drawn_is_answered_by_all_champions_alike_and_so_is_a_sample(platform, open_page):
    served = platform.champions()
    page = open_page()
    show(page, "try/lenet5")
    expect(page.get_by_text("The answers appear here.").first).to_be_visible()
    draw(page, SEVEN)
    for framework in LENET5.default_frameworks:
        expect(answer(page, f"lenet5-{framework}")).to_contain_text(f"version {served[framework]['version']} on ")
        expect(answer(page, f"lenet5-{framework}").locator(".label strong")).to_have_text(SEVEN_IS)
        expect(answer(page, f"lenet5-{framework}").locator(".bars li")).to_have_count(10)
        expect(answer(page, f"lenet5-{framework}").locator(".time")).to_contain_text(" ms")
    expect(page.get_by_role("status").filter(has_text=AGREED)).to_have_count(1)
    page.get_by_role("button", name="Clear").click()
    expect(verdict(page)).to_have_text("The answers appear here.")

    page.locator("#file").set_input_files(ROOT / "img" / "digit.png")
    expect(verdict(page)).to_have_text(AGREED)
    warning = page.get_by_role("alert")
    expect(warning).to_be_empty()
    page.locator("#file").set_input_files(on_paper("digit.png"))
    expect(warning).to_contain_text("the image has a bright background")

    sample = page.locator(".samples button").first
    label = sample.get_attribute("aria-label").rpartition("labelled ")[2]
    sample.focus()
    page.keyboard.press("Enter")
    expect(verdict(page)).to_contain_text(f"It is labelled {label}.")
    expect(warning).to_be_empty()
    expect(sample).to_have_attribute("aria-pressed", "true")
    for name in NAMES:
        expect(answer(page, name).locator(".state")).to_have_text([JUDGED])


def test_keys_alone_draw(open_page):
    page = open_page()
    show(page, "try/lenet5")
    page.locator("canvas").focus()
    page.keyboard.press("Space")
    for _ in range(9):
        page.keyboard.press("ArrowDown")
    for name in NAMES:
        expect(answer(page, name).locator(".label strong")).to_have_text(SOME_LABEL)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (DIGIT | {"buffer": DIGIT["buffer"].ljust(2 * MOST_BYTES, b"\0")}, f"expected at most {MOST_BYTES} bytes"),
        (DIGIT | {"buffer": DIGIT["buffer"][:60]}, "cannot be decoded"),
        (DIGIT | {"name": "digit.jpeg", "mimeType": "image/jpeg"}, None),
        (bar("GIF"), "unknown format"),
        ({"name": "word.wav", "mimeType": "audio/wav", "buffer": b"RIFF"}, "unknown format"),
        ({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"to do"}, "unknown format"),
    ],
    ids=["large", "cut off", "wrong type", "GIF", "WAV", "text"],
)
def test_a_file_that_is_no_picture_is_refused_in_a_sentence(platform, browser, file, said):
    with browser.new_context(base_url=platform.settings.airflow_url) as context:
        page = logged_in(context, platform)
        show(page, "try/lenet5")
        drop(page, file)
        if said:
            expect(page.get_by_role("alert")).to_contain_text(said)
            expect(verdict(page)).to_have_text("The answers appear here.")
            drop(page, DIGIT)
        expect(verdict(page)).to_have_text(AGREED)
        expect(page.get_by_role("alert")).to_have_text("")


def test_of_files_that_are_dropped_one_after_the_other_the_last_is_answered(open_page):
    page, held = open_page(), []
    page.route("**/api/try?**", lambda route: route.continue_() if held else held.append(route))
    show(page, "try/lenet5")
    with page.expect_request("**/api/try?**") as first:
        drop(page, bar())
    drop(page, DIGIT)
    expect(verdict(page)).to_have_text(AGREED)
    shown = page.locator(".output").inner_html()
    held[0].continue_()
    assert first.value.response().finished() is None
    page.evaluate("new Promise(resolve => setTimeout(resolve, 100))")
    assert page.locator(".output").inner_html() == shown
