"""A run that is started in Airflow's trigger form, and what Airflow then shows of it: names, links, note, log and documents."""

from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import logged_in
from tests.waiting import PATIENCE, RUN_PATIENCE, wait_for
from windtunnel.platform.airflow import Airflow
from windtunnel.run import Run
from windtunnel.settings import run_directory
from windtunnel.waiting import wait_until

pytestmark = pytest.mark.minutes(3)

FILLED = {
    "Training": {"samples": ("Training images", 1280), "epochs": ("Epochs", 1)},
    "Benchmark": {"benchmark_seconds": ("Seconds per measurement", 0)},
    "Release": {"margin": ("Accuracy margin", 1)},
}
"""What a person fills in, by section and parameter: the title in the form, and the value."""


@pytest.fixture(scope="module")
def airflow(platform):
    return Airflow(platform.settings)


@pytest.fixture(scope="module")
def pressed(platform, browser, airflow):
    """A run of `lenet5` whose form a person filled in: its id, when it has succeeded."""
    airflow.params("lenet5")  # waits until Airflow has read the DAG
    before = {run["dag_run_id"] for run in airflow._request("GET", "/api/v2/dags/lenet5/dagRuns")["dag_runs"]}
    with browser.new_context(base_url=platform.settings.airflow_url, viewport={"width": 1280, "height": 1600}) as context:
        page = logged_in(context, platform, "/dags/lenet5")
        page.get_by_role("button", name="Trigger").first.click()
        form = page.get_by_role("dialog")
        for section, fields in FILLED.items():
            heading = form.get_by_role("button", name=section, exact=True)
            expect(heading).to_be_visible()
            if heading.get_attribute("aria-expanded") != "true":
                heading.click()
            for title, value in fields.values():
                form.get_by_role("spinbutton", name=title).fill(str(value))
        form.get_by_role("button", name="Trigger", exact=True).click()

        def new():
            runs = airflow._request("GET", "/api/v2/dags/lenet5/dagRuns")["dag_runs"]
            return next((run["dag_run_id"] for run in runs if run["dag_run_id"] not in before), None)

        run_id = wait_for(new, PATIENCE)
    assert wait_until(lambda: airflow.run("lenet5", run_id).ended, RUN_PATIENCE, poll=1)
    assert airflow.run("lenet5", run_id).state == "success"
    return run_id


def instances(airflow, run_id):
    path = f"/api/v2/dags/lenet5/dagRuns/{quote(run_id, safe='')}"
    return airflow._request("GET", f"{path}/taskInstances", params={"limit": 100})["task_instances"]


def links(airflow, run_id, task, map_index=-1):
    path = f"/api/v2/dags/lenet5/dagRuns/{quote(run_id, safe='')}/taskInstances/{task}/links"
    return airflow._request("GET", path, params={"map_index": map_index})["extra_links"]


def test_the_run_has_what_was_filled_in(airflow, pressed):
    conf = airflow._request("GET", f"/api/v2/dags/lenet5/dagRuns/{quote(pressed, safe='')}")["conf"]
    for fields in FILLED.values():
        assert {name: conf[name] for name in fields} == {name: value for name, (_, value) in fields.items()}


def test_tasks_and_their_copies_have_names_that_a_person_reads(airflow, pressed):
    found = instances(airflow, pressed)
    names = {each["task_id"]: each["task_display_name"] for each in found}
    assert names["release.gate"] == "Compare with champion"
    assert names["watcher"] == "Check the outcome"
    drills = {each["rendered_map_index"] for each in found if each["task_id"] == "release.fire_drill"}  # skipped before they started
    assert drills == {"libtorch", "pytorch", "tensorflow"}


def test_a_task_links_to_mlflow_tensorboard_and_the_report(airflow, platform, pressed):
    run = Run(run_directory(platform.settings.home, "lenet5", pressed))
    report = f"/dags/lenet5/runs/{quote(pressed, safe='')}/plugin/report"
    assert links(airflow, pressed, "report") == {
        "MLflow run": f"{platform.settings.mlflow_url}/#/runs/{run.lineage().mlflow_run}",
        "Report": report,
        "TensorBoard": links(airflow, pressed, "report")["TensorBoard"],
    }
    for copy, framework in enumerate(("libtorch", "pytorch", "tensorflow")):
        for task in ("framework.train", "release.promote", "release.approve"):
            found = links(airflow, pressed, task, copy)
            assert found["MLflow run"] == f"{platform.settings.mlflow_url}/#/runs/{run.tracked(framework).read_text()}"
            assert unquote(found["TensorBoard"]).endswith(f"/{framework}#timeseries")
            assert found["Report"] == report
    assert links(airflow, pressed, "watcher") == {}


def test_the_links_lead_somewhere(airflow, platform, browser, pressed):
    found = links(airflow, pressed, "framework.train", 1)
    with browser.new_context(base_url=platform.settings.airflow_url) as context:
        page = logged_in(context, platform, found["Report"])
        expect(page.frame_locator("iframe[title=Report]").locator("h1")).to_contain_text("lenet5/")
        page.goto(found["MLflow run"])
        expect(page.get_by_text("final_accuracy").first).to_be_visible()
        page.goto(found["TensorBoard"])
        expect(page.get_by_text(f"{Run(run_directory(platform.settings.home, 'lenet5', pressed)).name}/pytorch").first).to_be_visible()


def test_the_result_is_in_the_runs_note_and_what_a_user_wrote_stays(airflow, pressed):
    def note():
        return airflow._request("GET", f"/api/v2/dags/lenet5/dagRuns/{quote(pressed, safe='')}")["note"]

    written = wait_for(note, PATIENCE)  # the callback runs after the task has ended
    assert written.startswith("Result: lenet5-libtorch ")
    assert written.count("promoted") == 3
    path = f"/api/v2/dags/lenet5/dagRuns/{quote(pressed, safe='')}"
    airflow._request("PATCH", path, json={"note": f"with the new data\n{written}"})
    airflow.note_result("lenet5", pressed, "nothing was trained")
    assert note() == "with the new data\nResult: nothing was trained"


def test_the_documents_that_a_description_links_to_are_served(airflow, platform, browser):
    page = airflow.http.get("/windtunnel/docs/docs/releases.md")
    assert page.status_code == 200
    assert '<h2 id="the-tasks-of-a-run">' in page.text
    assert airflow.http.get("/windtunnel/docs/img/digit.png").headers["content-type"] == "image/png"
    for path in ("pyproject.toml", "docs/%2e%2e/pyproject.toml", "docs/../pyproject.toml", ".env", "docs/no-such-page.md"):
        assert airflow.http.get(f"/windtunnel/docs/{path}").status_code == 404, path
    with browser.new_context(base_url=platform.settings.airflow_url) as context:
        shown = context.new_page()
        assert shown.goto("/windtunnel/docs/docs/releases.md").status == 401
        shown = logged_in(context, platform, "/")
        expect(shown.get_by_role("link", name="Dags").first).to_be_visible()
        errors = []
        shown.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        shown.goto("/windtunnel/docs/docs/training.md")
        shown.get_by_role("link", name="trainer contract").first.click()
        expect(shown.locator("h1").first).to_be_visible()
        assert shown.url.endswith("/windtunnel/docs/train_server/README.md")
        assert errors == []
