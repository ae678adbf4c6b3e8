"""The page Models when something fails or nobody is logged in; and its quality: theme, accessibility, and what it loads."""

import re
import signal
from contextlib import contextmanager
from importlib.resources import files
from itertools import chain, repeat
from urllib.parse import unquote

import httpx
import psutil
import pytest
from playwright.sync_api import Route, expect

from tests.e2e.browser import log_in, logged_in
from tests.e2e.shared.models_page import ALONE, MODEL, SEVEN_IS, alias, answer, show
from tests.waiting import PATIENCE, wait_for
from windtunnel.platform.airflow import Airflow
from windtunnel.settings import ROOT

pytestmark = [pytest.mark.minutes(2), pytest.mark.usefixtures("champions")]

VIEWS = ("overview", "try/lenet5", f"versions/{MODEL}", "compare", "history")
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
SERIOUS = ("serious", "critical")


def test_who_is_not_logged_in_is_led_to_the_login_and_back(platform, browser):
    with browser.new_context(base_url=platform.settings.airflow_url) as context:
        page = context.new_page()
        page.goto(ALONE)
        log_in(page, platform)
        expect(page.locator(".view.overview")).to_be_visible()
        assert page.url.partition("#")[0] == f"{platform.settings.airflow_url}{ALONE}"

        context.clear_cookies()
        page.get_by_role("link", name="History").click()
        page.locator(".view.history").get_by_role("link", name="Log in").click()
        log_in(page, platform)
        expect(page.locator(".view.history .event").first).to_be_visible()
        assert page.url == f"{platform.settings.airflow_url}{ALONE}#/history"

        page.get_by_role("link", name="Overview").click()
        context.clear_cookies()
        expect(page.locator("#updated").get_by_role("link", name="Log in")).to_be_visible()


@pytest.mark.parametrize(
    ("lost", "lose"),
    [("release.js", Route.abort), ("api/models", Route.abort), ("api/models", lambda never_answered: None)],
    ids=["file", "request", "answer"],
)
def test_what_is_lost_once_is_asked_for_again(platform, browser, lost, lose):
    ways = chain([lose], repeat(Route.continue_))  # `times=1` would not do: what is asked meanwhile hangs, now and then, in Playwright
    with browser.new_context(base_url=platform.settings.airflow_url) as context:
        page = logged_in(context, platform)
        page.add_init_script("setInterval = () => 0")  # so that it is not the next answer that heals it
        page.route(f"**{ALONE}{lost}", lambda route: next(ways)(route))
        with page.expect_event("requestfailed"):
            show(page, "overview")


def test_a_release_that_can_no_longer_be_followed_is_left(platform, browser):
    with browser.new_context(base_url=platform.settings.airflow_url) as context:
        page = logged_in(context, platform)
        show(page, "overview")
        page.get_by_role("button", name=re.compile("^Reconcile")).click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("a test of the page")
        dialog.locator("[type=submit]").click()
        started = page.locator(".activity")
        expect(started.get_by_role("button", name="Dismiss")).to_be_visible()
        context.clear_cookies()
        expect(started.get_by_role("link", name="Log in")).to_be_visible()
        asked = []
        page.on("request", lambda request: asked.append(request.url) if "/dagRuns/" in request.url else None)
        with page.expect_request("**/api/models"):  # some seconds later
            pass
        assert asked == []
        run = unquote(started.get_by_role("link", name="Open the run").get_attribute("href").rpartition("/")[2])
        started.get_by_role("button", name="Dismiss").click()
        expect(started).to_have_count(0)
    airflow = Airflow(platform.settings).http
    wait_for(lambda: airflow.get(f"/api/v2/dags/release/dagRuns/{run}").json()["state"] == "success")


@contextmanager
def killed(platform, word):
    """A server that is dead and stays so: its supervisor, which would start it again, is halted meanwhile."""
    supervisor = psutil.Process(next(each["pid"] for each in platform.json("status")["processes"] if each["name"] == "supervisor"))
    before = platform.champions()
    supervisor.send_signal(signal.SIGSTOP)
    try:
        for process in platform.processes(word):
            process.send_signal(signal.SIGKILL)
        yield
    finally:
        supervisor.send_signal(signal.SIGCONT)
        wait_for(lambda: platform.champions() == before)


def test_a_server_that_is_killed_is_named_and_the_others_answer(platform, open_page):
    with killed(platform, "serving.tfserving_embedded"):
        page = open_page()
        show(page, "overview")
        expect(page.get_by_text("tfserving is down")).to_be_visible()
        expect(page.get_by_text("torchserve is healthy")).to_be_visible()
        expect(alias(page, "lenet5-tensorflow", "champion")).to_contain_text("no answer")
        expect(alias(page, MODEL, "champion")).to_contain_text("users get it")
        show(page, "try/lenet5")
        page.locator("#file").set_input_files(ROOT / "img" / "digit.png")
        expect(answer(page, MODEL).locator(".label strong")).to_have_text(SEVEN_IS)
        expect(answer(page, "lenet5-tensorflow")).to_contain_text("tfserving")
        expect(answer(page, "lenet5-tensorflow").locator(".problem")).to_be_visible()
    show(page, "overview")
    expect(page.get_by_text("tfserving is healthy")).to_be_visible()
    expect(alias(page, "lenet5-tensorflow", "champion")).to_contain_text("users get it")


def test_the_page_and_its_icon_have_airflows_theme(open_page):
    airflow = open_page()
    for theme, file in (("dark", "icon_dark.svg"), ("light", "icon.svg")):
        airflow.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        airflow.goto("/dags/lenet5")
        link = airflow.get_by_role("link", name="Models", exact=True)
        icon = link.locator("img")
        expect(icon).to_have_js_property("src", f"{airflow.url.partition('/dags')[0]}{ALONE}{file}")
        assert wait_for(lambda icon=icon: icon.evaluate("icon => icon.complete && icon.naturalWidth"))
        link.click()
        expect(airflow.frame_locator("iframe[title=Models]").locator("html")).to_have_css("color-scheme", re.compile(theme))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_view_is_accessible_and_fits(open_page, theme, width):
    # The page's policy does not let axe in.
    page = open_page(color_scheme=theme, viewport={"width": width, "height": 800}, bypass_csp=True)
    for view in VIEWS:
        show(page, view)
        page.evaluate(AXE)
        found = page.evaluate("axe.run()")["violations"]
        assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS] == [], view
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
    show(page, "overview")
    page.get_by_role("button", name="Reconcile…").click()
    page.evaluate(AXE)
    assert [each["id"] for each in page.evaluate("axe.run()")["violations"] if each["impact"] in SERIOUS] == []


def test_the_page_loads_nothing_and_runs_nothing_from_elsewhere(platform):
    client = Airflow(platform.settings).http
    policy = client.get(ALONE).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe" not in policy
    assert "script-src 'self'" in policy
    with httpx.Client(base_url=platform.settings.airflow_url, trust_env=False, timeout=PATIENCE) as nobody:
        assert nobody.get(ALONE).status_code == 401
        assert nobody.get(f"{ALONE}api/models").status_code == 401
