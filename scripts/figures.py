"""Make the pictures in img/ from the newest successful runs on the running platform: `make figures`.

    python scripts/figures.py

Chromium opens each page, waits until it shows the expected content, and takes a screenshot.
"""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser, Error, Locator, Page, StorageState, ViewportSize, expect, sync_playwright

from benchmarks.figures import draw_run
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.platform.airflow import Airflow
from windtunnel.platform.program import run_program
from windtunnel.platform.secrets import USER, airflow_password
from windtunnel.run import Run
from windtunnel.settings import ROOT, Settings, load_settings
from windtunnel.tracking import client, reachable

DAG, SPEECH = "lenet5", "speech_commands"
IMAGES = ROOT / "img"
LIMIT = 300_000  # bytes per picture
PATIENCE = 60_000  # ms; timeout for a page to show the expected content
MOMENT = 500  # ms
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

SEVEN = ((0.25, 0.25), (0.72, 0.25), (0.47, 0.79))  # a digit as a line

Colours = Literal["light", "dark"]

# Replaces paths of this machine in the text of a page or frame.
WITHOUT_PATHS = """names => {
    const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (nodes.nextNode()) {
        let text = nodes.currentNode.data;
        for (const [path, name] of names) text = text.replaceAll(path, name);
        if (text !== nodes.currentNode.data) nodes.currentNode.data = text;
    }
}"""


@dataclass(frozen=True)
class Figure:
    """A picture: the page to open, the actions until it shows the expected content, and the content of the page's local storage."""

    name: str
    url: str
    show: Callable[[Page], None]
    width: int = 1280
    height: int = 800
    storage: dict[str, Any] = field(default_factory=dict)
    colours: Colours = "light"


def newest_run(settings: Settings, dag: str) -> Run:
    """Return the newest complete run.

    Raises:
        WindtunnelError: there is none.
    """
    reported = [Run(page.parent) for page in (settings.runs / dag).glob("*/report.html")]
    whole = [run for run in reported if not json.loads(run.report.read_text())["missing"]]
    if not whole:
        raise WindtunnelError(f"{settings.runs / dag} has no successful run for the pictures: start one with `windtunnel run {dag}`")
    return max(whole, key=lambda run: run.html.stat().st_mtime)


def airflow_figures(settings: Settings, run: Run) -> list[Figure]:
    """Return the pictures of the DAG and the run's page in Airflow."""
    dag = f"{settings.airflow_url}/dags/{DAG}"
    here = f"{dag}/runs/{quote(run.lineage().run_id, safe='')}"
    opened = {f"{DAG}/open-groups": ["framework", "publication", "release"]}

    def dags(page: Page) -> None:
        expect(page.get_by_text("Latest Run").first).to_be_visible()
        expect(page.get_by_role("link", name=DAG, exact=True)).to_be_visible()

    def trigger(page: Page) -> None:
        page.get_by_role("button", name="Trigger").first.click()
        page.get_by_role("dialog").get_by_role("button", name="Training", exact=True).click()
        expect(page.get_by_text("The frameworks to train with.")).to_be_visible()

    def graph(page: Page) -> None:
        page.get_by_role("button", name="Show Graph").click()
        page.get_by_role("button", name="Collapse Details Panel").click()
        expect(page.locator(".react-flow__node").filter(has_text="Check the outcome").first).to_be_visible()
        page.add_style_tag(content=".react-flow__minimap { display: none }")  # it would cover the last tasks
        page.locator(".react-flow__controls-fitview").click()

    def gantt(page: Page) -> None:
        page.get_by_role("button", name="Show Gantt").click()
        page.get_by_role("button", name="Collapse Details Panel").click()
        expect(page.get_by_role("link", name="Check the outcome").first).to_be_visible()

    def log(page: Page) -> None:
        expect(page.get_by_text("epoch 1/").first).to_be_visible()

    def report(page: Page) -> None:
        expect(page.frame_locator("iframe[title=Report]").locator("h1").first).to_be_visible()

    return [
        Figure("airflow_dags", f"{settings.airflow_url}/dags", dags, height=740),
        Figure("airflow_trigger", dag, trigger, height=1025),
        Figure("airflow_graph", here, graph, height=420),
        Figure("airflow_gantt", here, gantt, height=720, storage=opened),
        Figure("airflow_log", f"{here}/tasks/framework.train/mapped/0", log, height=640),
        Figure("airflow_report", f"{here}/plugin/report", report, width=1440, height=900),
    ]


def models_figures(settings: Settings) -> list[Figure]:
    """Return the pictures of the page Models: inside Airflow with a drawn digit, and alone in both colour schemes."""

    def tried(page: Page) -> None:
        frame = page.frame_locator("iframe[title=Models]")
        frame.get_by_role("link", name="Try it").click()
        draw(page, frame.locator("canvas"), SEVEN)
        expect(frame.locator(".verdict")).to_have_text("All 3 answer 7.")

    def overview(page: Page) -> None:
        expect(page.get_by_role("article")).not_to_have_count(0)
        expect(page.get_by_text("Loading…")).to_have_count(0)

    alone = f"{settings.airflow_url}/windtunnel/models/"
    return [
        Figure("models_try", f"{settings.airflow_url}/plugin/models", tried, width=1440, height=1100),
        *[Figure(f"models_{colours}", alone, overview, height=1000, colours=colours) for colours in get_args(Colours)],
    ]


def draw(page: Page, canvas: Locator, points: Sequence[tuple[float, float]]) -> None:
    """Draw a line with the mouse. The points are fractions of the canvas's width and height."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    (x, y), *others = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in points]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in others:
        page.mouse.move(x, y, steps=10)
    page.mouse.up()


def tensorboard_figure(settings: Settings, run: Run) -> Figure:
    """Return the picture of TensorBoard with the curves of the run's frameworks on the same axes."""

    def curves(page: Page) -> None:
        page.locator("runs-data-table").get_by_role("checkbox").first.check()  # with many runs TensorBoard selects none by default
        expect(page.locator("scalar-card line-chart canvas, scalar-card line-chart svg").first).to_be_visible()

    stored = {"ignoreOutliers": False, "stepSelectorEnabled": False, "timeSeriesSettingsPaneOpened": False, "scalarSmoothing": 0}
    stored["sideBarWidthInPercent"] = 27
    query = f"runFilter={quote(run.name)}&tagFilter=epoch"
    return Figure(
        "tensorboard", f"{settings.tensorboard_url}/?{query}#timeseries", curves, height=845, storage={"_tb_global_settings": stored}
    )


def mlflow_figure(settings: Settings, run: Run) -> Figure:
    """Return the picture of MLflow's comparison of the run's frameworks: their differences and metrics."""
    lineage = run.lineage()
    with reachable(settings):
        experiment = client(settings).get_run(lineage.mlflow_run).info.experiment_id
    stored = {"mlflow.workflowType_v1": '"machine_learning"', "mlflow.assistant.panelOpen_v1": False}
    stored["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"] = True

    def compare(page: Page) -> None:
        page.get_by_text("Visualizations").click()
        page.get_by_role("switch", name="Parameters - Show diff only").click()
        expect(page.get_by_text("samples_per_second").first).to_be_visible()

    runs = json.dumps([run.tracked(framework).read_text().strip() for framework in lineage.frameworks])
    url = f"{settings.mlflow_url}/#/compare-runs?runs={quote(runs)}&experiments={quote(json.dumps([experiment]))}"
    return Figure("mlflow", url, compare, height=1050, storage=stored)


def report_figures(run: Run) -> list[Figure]:
    """Return the pictures of the report, in both colour schemes."""

    def whole(page: Page) -> None:
        expect(page.locator("h1").first).to_be_visible()

    return [Figure(f"report_{colours}", run.html.as_uri(), whole, height=1470, colours=colours) for colours in get_args(Colours)]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the machine's Chromium without a window.

    Raises:
        WindtunnelError: it is not installed.
    """
    path = shutil.which("chromium")
    if path is None:
        raise WindtunnelError("chromium is missing: `make figures` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def log_in(browser: Browser, settings: Settings) -> StorageState:
    """Log in to Airflow in the browser and return the cookies."""
    with browser.new_context(base_url=settings.airflow_url) as context:
        page = context.new_page()
        page.goto("/auth/login")
        page.get_by_label("Username").fill(USER)
        page.get_by_label("Password").fill(airflow_password(settings))
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/auth/" not in url)
        return context.storage_state()


def take(browser: Browser, login: StorageState, figure: Figure, paths: list[tuple[str, str]]) -> bytes:
    """Return the picture as PNG with at most 256 colours: pages have few, and the file is a third of the size."""
    size: ViewportSize = {"width": figure.width, "height": figure.height}
    with browser.new_context(viewport=size, color_scheme=figure.colours, storage_state=login, reduced_motion="reduce") as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        stored = {name: value if isinstance(value, str) else json.dumps(value) for name, value in figure.storage.items()}
        page.add_init_script(f"for (const [name, value] of Object.entries({json.dumps(stored)})) localStorage.setItem(name, value)")
        page.goto(figure.url)
        figure.show(page)
        image = Image.open(io.BytesIO(settled(page, paths)))
    packed = io.BytesIO()
    # MAXCOVERAGE keeps the colours of what is small, such as a legend's marks.
    image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def settled(page: Page, paths: list[tuple[str, str]]) -> bytes:
    """Return a screenshot of the page when it has stopped changing."""
    before = b""
    for _ in range(PATIENCE // MOMENT):
        page.wait_for_timeout(MOMENT)
        for frame in page.frames:
            frame.evaluate(WITHOUT_PATHS, paths)
        now = page.screenshot(animations="disabled", caret="hide")
        if now == before:
            return now
        before = now
    raise Error("it does not stop changing")


def draw_architecture() -> Path:
    """Draw img/architecture.dot as img/architecture.svg.

    Raises:
        WindtunnelError: Graphviz is not installed.
    """
    source = IMAGES / "architecture.dot"
    if shutil.which("dot") is None:
        raise WindtunnelError("dot is missing: `make figures` installs it")
    drawn = subprocess.run(["dot", "-Tsvg", str(source)], check=True, capture_output=True).stdout
    picture = source.with_suffix(".svg")
    write_atomically(picture, drawn)
    return picture


def main() -> None:
    """Make all pictures."""
    settings = load_settings()
    run, spoken = newest_run(settings, DAG), newest_run(settings, SPEECH)
    Airflow(settings)  # raises an error with the next step if it is not up
    made = [draw_architecture(), *draw_run(run, IMAGES), *draw_run(spoken, IMAGES)]
    paths = [(str(settings.home), ".windtunnel"), (sys.prefix, ".venv"), (str(settings.root), "windtunnel"), (str(ROOT), "windtunnel")]
    expect.set_options(timeout=PATIENCE)
    figures = [*airflow_figures(settings, run), *models_figures(settings)]
    figures += [tensorboard_figure(settings, run), mlflow_figure(settings, run), *report_figures(run)]
    with chromium() as browser:
        login = log_in(browser, settings)
        for figure in figures:
            try:
                picture = take(browser, login, figure, paths)
            except (Error, AssertionError) as error:
                reason = str(error).splitlines()[0]
                raise WindtunnelError(f"{figure.name}: {figure.url} does not show the expected content ({reason})") from error
            made.append(IMAGES / f"{figure.name}.png")
            write_atomically(made[-1], picture)
    for file in made:
        print(f"{file.relative_to(ROOT)}  {file.stat().st_size / 1000:.0f} kB")
    if large := [file.name for file in made if file.stat().st_size > LIMIT]:
        raise WindtunnelError(f"larger than {LIMIT // 1000} kB: {', '.join(large)}. Make the windows smaller in scripts/figures.py")


if __name__ == "__main__":
    run_program(main)
