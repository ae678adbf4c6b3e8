"""The report of a run, as people who are logged in find it on the run's page in Airflow."""

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.browser import logged_in
from tests.waiting import PATIENCE
from windtunnel.platform.airflow import Airflow
from windtunnel.settings import run_directory

REPORT = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Report</title>
<style>p { color: rgb(1, 1, 1) } @media (prefers-color-scheme: dark) { p { color: rgb(254, 254, 254) } }</style>
<p>99.18 % of the digits</p>
<script>document.querySelector("p").textContent = "a script ran"</script>
"""


@pytest.fixture(scope="module")
def run_id(platform):
    """A run that has written a report for a browser."""
    run = platform.json("run", "trivial", "--param", "names=a")["run_id"]
    (run_directory(platform.settings.home, "trivial", run) / "report.html").write_text(REPORT)
    return run


@pytest.fixture
def airflow(platform):
    """A client of Airflow that nobody has logged in."""
    with httpx.Client(base_url=platform.settings.airflow_url, timeout=PATIENCE, trust_env=False) as client:
        yield client


@pytest.fixture
def user(platform):
    """A client that is logged in."""
    return Airflow(platform.settings).http


def path(run_id, dag_id="trivial"):
    return f"/windtunnel/reports/{dag_id}/{run_id}"


def test_who_is_logged_in_gets_the_report(user, run_id):
    reply = user.get(path(run_id))
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.text == REPORT


def test_who_is_not_does_not(airflow, run_id):
    assert airflow.get(path(run_id)).status_code == 401
    assert airflow.get(path("no-such-run")).status_code == 401
    forged = airflow.get(path(run_id), headers={"Authorization": "Bearer forged"})
    assert forged.status_code == 403
    assert "99.18" not in forged.text


def test_without_a_report_the_page_says_so(user, run_id):
    reply = user.get(path("manual__<b>"))
    assert reply.status_code == 404
    assert "Run manual__&lt;b&gt; of trivial has no report yet" in reply.text
    assert user.get(path(run_id, "no-such-dag")).status_code == 404


def test_a_file_that_is_no_runs_report_is_not_shown(platform, user):
    """Reached by `..` or through a link, it is nobody's report."""
    elsewhere, linked = platform.settings.home / "elsewhere", platform.settings.runs / "trivial" / "linked"
    for directory in (elsewhere, linked):
        directory.mkdir(parents=True)
    (elsewhere / "report.html").write_text("outside")
    (linked / "report.html").symlink_to(elsewhere / "report.html")
    (platform.settings.runs / "report.html").write_text("outside")
    for address in (path("linked"), path("elsewhere", "%2e%2e"), path("%2e%2e")):
        assert user.get(address).status_code == 404, address


def test_the_runs_page_has_a_tab_with_the_report_in_the_pages_colours_and_no_script_runs(platform, browser, run_id):
    with browser.new_context(base_url=platform.settings.airflow_url, color_scheme="null") as context:
        page = logged_in(context, platform, f"/dags/trivial/runs/{run_id}")
        page.get_by_role("link", name="Report", exact=True).click()
        report = page.frame_locator("iframe[title=Report]").locator("p")
        for theme, colour in (("light", "rgb(1, 1, 1)"), ("dark", "rgb(254, 254, 254)")):
            page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
            page.reload()
            expect(report).to_have_text("99.18 % of the digits")
            expect(report).to_have_css("color", colour)
