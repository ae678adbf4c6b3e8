"""The page Models, as people use it inside Airflow: look, promote, roll back, compare, and read what happened."""

import math
import re
from itertools import chain, count, repeat
from urllib.parse import unquote

import pytest
from playwright.sync_api import Route, expect

from serving.release import audit
from tests.e2e.browser import logged_in
from tests.e2e.shared.models_page import MODEL, alias, aliases, answer, card, give_reason, show
from train_server.lenet5.model import LENET5
from windtunnel.platform.airflow import Airflow
from windtunnel.platform.secrets import USER
from windtunnel.tracking import client

pytestmark = [pytest.mark.minutes(4), pytest.mark.usefixtures("champions")]

SOME = 16  # of many links and buttons
ASK_NOW = "document.dispatchEvent(new Event('visibilitychange'))"


@pytest.fixture(scope="module")
def two_versions(platform, champions):
    """Two versions of one registered model at least: one can be promoted, and rolled back to."""
    if sum(known["name"] == MODEL for known in platform.json("models")) < 2:
        short = ("--param", "samples=4000", "--param", "benchmark_seconds=0", "--param", "margin=1")
        assert platform.json("run", "lenet5", *short, "--param", "frameworks=pytorch")["state"] == "success"


def limited(page, limit):
    """Have the service give so many items at a time."""
    pattern = re.compile(r"/api/(versions|history)\?")
    page.route(pattern, lambda route: route.continue_(url=re.sub(r"limit=\d+", f"limit={limit}", route.request.url)))


def changed(page, path, change):
    """Have a function change what the service answers."""

    def answer(route):
        reply = route.fetch()
        found = reply.json()
        change(found)
        route.fulfill(response=reply, json=found)

    page.route(path, answer)


def test_the_navigation_leads_to_the_champions_with_desired_and_actual_state(platform, open_page):
    served = platform.champions()
    airflow = open_page()
    airflow.get_by_role("link", name="Models", exact=True).click()
    page = airflow.frame_locator("iframe[title=Models]")
    for framework in LENET5.default_frameworks:
        name, server = f"lenet5-{framework}", LENET5.framework(framework).backend
        expect(card(page, name)).to_contain_text("✓ as desired")
        expect(alias(page, name, "champion")).to_contain_text(f"version {served[framework]['version']}")
        expect(alias(page, name, "champion")).to_contain_text("✓ users get it")
        expect(alias(page, name, "champion")).to_contain_text(re.compile("(Promoted|Rolled back) by "))
        expect(page.get_by_text(f"{server} is healthy")).to_be_visible()
    newest = max(known["version"] for known in platform.json("models") if known["name"] == MODEL)
    expect(card(page, MODEL)).to_contain_text(f"Versions (newest: {newest})")
    page.get_by_role("link", name="History").click()
    expect(page.locator(".event").filter(has_text=MODEL).first).to_contain_text("version")
    page.get_by_role("link", name="Versions", exact=True).click()
    page.get_by_label("Registered model").select_option(MODEL)
    expect(page.get_by_role("row").nth(1).locator(".index")).to_have_text(str(newest))
    champion = page.get_by_role("row").filter(has=page.get_by_text("champion", exact=True))
    expect(champion).to_contain_text(str(served["pytorch"]["version"]))
    run = champion.get_by_role("link", name=re.compile("^lenet5 ")).first
    path = run.get_attribute("href").removeprefix("../..")
    run.click()  # Airflow's sandbox lets no frame navigate the window
    airflow.wait_for_url(f"{platform.settings.airflow_url}{path}**")


def test_a_version_is_promoted_and_rolled_back_and_the_answers_are_its(platform, two_versions, open_page):
    before = aliases(platform, MODEL)["champion"]
    other = next(known["version"] for known in platform.json("models") if known["name"] == MODEL and known["version"] != before)
    page = open_page()
    show(page, f"versions/{MODEL}")
    page.get_by_role("button", name=f"Promote… version {other}", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name=f"Promote… version {other}", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Promote", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()  # without a reason nothing happens
    assert "succeeded" in give_reason(page, "Promote", "a test of the page")
    assert aliases(platform, MODEL)["champion"] == other

    show(page, "try/lenet5")
    page.locator(".samples button").first.click()
    expect(answer(page, MODEL)).to_contain_text(f"version {other} on ")
    trying = open_page()
    show(trying, "try/lenet5")
    trying.locator(".samples button").first.click()
    expect(answer(trying, MODEL)).to_contain_text(f"version {other} on ")

    show(page, "overview")
    expect(alias(page, MODEL, "champion")).to_contain_text(f"version {other}")
    expect(alias(page, MODEL, "champion")).to_contain_text(f"Promoted by {USER} ")
    expect(alias(page, MODEL, "champion")).to_contain_text("a test of the page")
    late = open_page()
    show(late, "overview")
    for each in (late, page):
        card(each, MODEL).get_by_role("button", name=f"Roll back to {before}…").click()
    assert "succeeded" in give_reason(page, "Roll back", "the test is over")
    expect(alias(page, MODEL, "champion")).to_contain_text(f"version {before}")
    expect(alias(page, MODEL, "champion")).to_contain_text(f"Rolled back by {USER} ")
    expect(card(page, MODEL).get_by_role("button", name=f"Undo rollback to {before}…")).to_be_visible()
    assert "succeeded" in give_reason(late, "Roll back", "pressed by two people")  # and undoes nothing
    assert aliases(platform, MODEL)["champion"] == before
    expect(answer(trying, MODEL)).to_contain_text(f"version {before} on ")  # it was asked again, without a click
    expect(answer(trying, MODEL).locator(".label strong")).not_to_be_empty()

    show(page, f"history/{MODEL}")
    expect(page.locator(".event").first).to_contain_text(re.compile(f"{USER} rolled back .*{MODEL} from version {other} to {before}"))
    run = unquote(page.locator(".event a").first.get_attribute("href").rpartition("/")[2])
    assert Airflow(platform.settings).http.get(f"/api/v2/dags/release/dagRuns/{run}").status_code == 200
    lines = audit.read(platform.settings.serving)[-2:]
    found = [(line["action"], line["who"], line["why"]) for line in lines]
    assert found == [("promote", USER, "a test of the page"), ("roll back", USER, "the test is over")]
    assert all(line["run"].startswith("release/") for line in lines)


def test_a_rollback_that_an_old_view_offers_is_refused_and_says_why(platform, open_page):
    mlflow, before, log = client(platform.settings), aliases(platform, MODEL), audit.read(platform.settings.serving)
    other = mlflow.create_model_version(MODEL, "s3://nowhere/model").version
    try:
        mlflow.set_registered_model_alias(MODEL, "previous", other)
        page = open_page()
        show(page, "overview")
        card(page, MODEL).get_by_role("button", name=re.compile("^(Roll back to|Undo rollback)")).click()
        if "previous" in before:
            mlflow.set_registered_model_alias(MODEL, "previous", str(before["previous"]))
        else:
            mlflow.delete_registered_model_alias(MODEL, "previous")
        said = give_reason(page, "Roll back", "a test of the page")
        assert f"failed: the previous version of {MODEL} is not {other}: found {before.get('previous', 'none')}, and version" in said
        assert "look again, and then decide" in said
    finally:
        mlflow.delete_model_version(MODEL, other)
    assert aliases(platform, MODEL) == before
    assert audit.read(platform.settings.serving) == log


def test_the_list_of_versions_grows_and_keeps_what_is_shown_chosen_and_focused(platform, two_versions, open_page):
    before = aliases(platform, MODEL)
    number = sum(known["name"] == MODEL for known in platform.json("models"))
    page = open_page()
    limited(page, 1)
    show(page, f"versions/{MODEL}")
    boxes = page.get_by_role("checkbox")
    for shown in range(1, number):
        expect(boxes).to_have_count(shown)
        page.get_by_role("button", name="Show older versions").click()
        expect(boxes.nth(shown)).to_be_focused()
    expect(boxes).to_have_count(number)
    expect(page.get_by_role("button", name="Show older versions")).to_have_count(0)
    boxes.nth(0).check()
    boxes.nth(1).check()
    champions = page.get_by_role("row").filter(has=page.locator(".badge.champion"))
    for champion in (before["previous"], before["champion"]):
        platform.windtunnel("rollback", MODEL)
        expect(champions.locator(".index")).to_have_text(str(champion))
        expect(boxes).to_have_count(number)
        expect(page.get_by_role("checkbox", checked=True)).to_have_count(2)
        expect(boxes.nth(1)).to_be_focused()
        expect(page.get_by_role("button", name="Compare two versions")).to_be_enabled()
    assert aliases(platform, MODEL) == before


def test_the_history_grows(platform, open_page):
    number = len(audit.read(platform.settings.serving))
    some = math.ceil(number / 3)
    page = open_page()
    limited(page, some)
    show(page, "history")
    events = page.locator(".event")
    for shown in range(some, number, some):
        expect(events).to_have_count(shown)
        page.get_by_role("button", name="Show older").click()
        expect(events.nth(shown)).to_be_focused()
    expect(events).to_have_count(number)
    expect(page.get_by_role("button", name="Show older")).to_have_count(0)


@pytest.mark.parametrize(("view", "items", "item"), [("versions", "versions", "table input"), ("history", "events", ".event")])
def test_a_last_page_that_is_empty_ends_a_list(open_page, view, items, item):
    page = open_page()
    changed(page, re.compile(rf"/api/{view}\?"), lambda found: found.update({"more": True}))
    changed(page, re.compile(rf"/api/{view}\?.*before="), lambda found: found.update({items: [], "more": False}))
    show(page, f"{view}/{MODEL}")
    number = page.locator(item).count()
    page.get_by_role("button", name="Show older").click()
    expect(page.locator(item).last).to_be_focused()
    expect(page.locator(item)).to_have_count(number)
    expect(page.get_by_role("button", name="Show older")).to_have_count(0)


def test_a_page_of_a_list_that_does_not_come_is_asked_for_again(platform, browser):
    ways = chain([lambda route: route.fulfill(status=503, json={"detail": "MLflow is down."})], repeat(Route.continue_))
    with browser.new_context(base_url=platform.settings.airflow_url) as context:
        page = logged_in(context, platform)
        limited(page, 1)
        page.route("**/api/history?**before=**", lambda route: next(ways)(route))
        show(page, "history")
        page.get_by_role("button", name="Show older").click()
        expect(page.get_by_text("MLflow is down.")).to_be_visible()
        expect(page.get_by_role("button", name="Try again")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(".event").nth(1)).to_be_focused()


@pytest.mark.parametrize(("view", "part"), [("overview", "main"), ("versions", "table"), ("history", ".timeline")])
def test_what_is_focused_stays_so_when_it_is_drawn_anew(open_page, view, part):
    numbers = count(1)

    def something_happens(found):
        number = next(numbers)
        found["problems"].append(f"problem {number}")
        for each in chain.from_iterable(model["registered"] for model in found["models"]):
            each["newest"] = each["newest"] and each["newest"] + number

    page = open_page()
    changed(page, "**/api/models", something_happens)
    show(page, f"{view}/{MODEL}")
    found = page.locator(f"{part} :is(a, button, input)")
    expect(found.first).to_be_visible()
    for index in range(min(found.count(), SOME)):
        before = found.nth(index).evaluate_handle("each => (each.focus(), each)")  # at once: it may be drawn anew at any time
        page.evaluate(ASK_NOW)
        page.wait_for_function("before => !before.isConnected", arg=before)
        expect(found.nth(index)).to_be_focused()


def test_versions_that_only_a_server_has_are_shown(platform, open_page):
    def deleted(found):
        for each in chain.from_iterable(model["registered"] for model in found["models"]):
            if each["name"] == MODEL:
                each.update({"newest": 0, "champion": None, "previous": None, "challenger": None})

    page = open_page()
    changed(page, "**/api/models", deleted)
    changed(page, re.compile(r"/api/versions\?"), lambda found: found.update({"versions": [], "more": False}))
    show(page, "overview")
    expect(alias(page, MODEL, "champion")).to_contain_text(f"✕ users get {aliases(platform, MODEL)['champion']}")
    expect(card(page, MODEL).get_by_role("button")).to_have_count(0)
    card(page, MODEL).get_by_role("link", name=f"Versions of {MODEL}", exact=True).click()
    expect(page.get_by_label("Registered model")).to_have_value(MODEL)
    expect(page.get_by_text(f"The registry has no version of {MODEL}.")).to_be_visible()


def test_the_clock_times_of_the_history_stay(open_page):
    page = open_page()
    page.clock.install()
    show(page, "history")
    times = page.locator(".event time")
    expect(times.first).to_be_visible()
    with page.expect_response("**/api/models"):
        page.clock.fast_forward("00:11")
    page.evaluate("new Promise(resolve => requestAnimationFrame(resolve))")
    assert [text for text in times.all_text_contents() if not re.fullmatch(r"\d\d:\d\d", text)] == []


@pytest.mark.parametrize("view", ["history", "versions"])
def test_arrow_keys_go_through_the_models_of_a_view(open_page, view):
    page = open_page()
    show(page, view)
    choice = page.get_by_label("Registered model")
    names = choice.locator("option").all_text_contents()
    choice.focus()
    for name in names[1:]:
        page.keyboard.press("ArrowDown")
        page.wait_for_url(f"**#/{view}/{name}")
        expect(choice).to_have_value(name)
        expect(choice).to_be_focused()


def test_two_versions_are_compared(platform, two_versions, open_page):
    page = open_page()
    show(page, f"versions/{MODEL}")
    boxes = page.get_by_role("checkbox")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.get_by_role("button", name="Compare two versions").click()
    expect(page.get_by_role("img", name="Training loss by epoch")).to_be_visible()
    expect(page.get_by_role("img", name="Test accuracy by epoch")).to_be_visible()
    expect(page.get_by_text(re.compile(r"They (differ on [1-9][\d,]* of|agree on all) 10,000 images"))).to_be_visible()


def test_who_may_not_release_sees_no_button(open_page):
    page = open_page("viewer")
    show(page, "overview")
    expect(card(page, MODEL)).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    show(page, f"versions/{MODEL}")
    expect(page.get_by_role("row").nth(1)).to_be_visible()
    expect(page.get_by_role("button", name="Promote")).to_have_count(0)


def test_an_empty_platform_says_what_to_do(open_page):
    page = open_page()
    page.route("**/windtunnel/models/api/models", lambda route: route.fulfill(json={"models": [], "servers": [], "problems": []}))
    show(page, "overview")
    expect(page.get_by_text("windtunnel run lenet5")).to_be_visible()
    expect(page.get_by_role("link", name="the DAG lenet5")).to_have_attribute("href", "../../dags/lenet5")
    for view in ("try", "versions", "compare", "history"):
        show(page, view)
