"""Make the pictures in img/ of the newest successful runs on the platform that is up: `make figures`.

    python scripts/figures.py

Chromium looks at the pages as people do, waits for what each is to show, and takes its picture.
"""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser, Error, Page, StorageState, ViewportSize, expect, sync_playwright

from train_server.figures import draw_run
from windtunnel.airflow import Airflow
from windtunnel.environment import USER, password_file
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.program import run_program
from windtunnel.run import Run
from windtunnel.settings import ROOT, Settings, load_settings
from windtunnel.tracking import client, reachable

DAG, SPEECH = "lenet5", "speech_commands"
IMAGES = ROOT / "img"
LIMIT = 300_000  # bytes of a picture
PATIENCE = 60_000  # ms until a page shows what it is to show
MOMENT = 500  # ms
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

Colours = Literal["light", "dark"]

# In a text node of the page or of a frame: no path of the machine that the pictures are made on.
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
    """A picture: what to open, what to do there until it shows what it is to show, and what the page is to find in its local storage."""

    name: str
    url: str
    show: Callable[[Page], None]
    width: int = 1280
    height: int = 800
    storage: dict[str, Any] = field(default_factory=dict)
    colours: Colours = "light"


def newest_run(settings: Settings, dag: str) -> Run:
    """The newest run that lacks nothing.

    Raises:
        WindtunnelError: there is none.
    """
    reported = [Run(page.parent) for page in (settings.runs / dag).glob("*/report.html")]
    whole = [run for run in reported if not json.loads(run.report.read_text())["missing"]]
    if not whole:
        raise WindtunnelError(f"{settings.runs / dag} holds no successful run to take pictures of: make one with `windtunnel run {dag}`")
    return max(whole, key=lambda run: run.html.stat().st_mtime)


def airflow_figures(settings: Settings, run: Run) -> list[Figure]:
    """The DAG in Airflow, and the run's page."""
    dag = f"{settings.airflow_url}/dags/{DAG}"
    here = f"{dag}/runs/{quote(run.lineage().run_id, safe='')}"
    opened = {f"{DAG}/open-groups": ["framework", "publication", "release"]}

    def dags(page: Page) -> None:
        expect(page.get_by_text("Latest Run").first).to_be_visible()
        expect(page.get_by_role("link", name=DAG, exact=True)).to_be_visible()

    def trigger(page: Page) -> None:
        page.get_by_role("button", name="Trigger").first.click()
        expect(page.get_by_text("What to train with.")).to_be_visible()

    def graph(page: Page) -> None:
        page.get_by_role("button", name="Show Graph").click()
        page.get_by_role("button", name="Collapse Details Panel").click()
        expect(page.locator(".react-flow__node").filter(has_text="watcher").first).to_be_visible()
        page.add_style_tag(content=".react-flow__minimap { display: none }")  # it would lie on the last tasks
        page.locator(".react-flow__controls-fitview").click()

    def gantt(page: Page) -> None:
        page.get_by_role("button", name="Show Gantt").click()
        page.get_by_role("button", name="Collapse Details Panel").click()
        expect(page.get_by_role("link", name="watcher").first).to_be_visible()

    def log(page: Page) -> None:
        expect(page.get_by_text("epoch 1/").first).to_be_visible()

    def report(page: Page) -> None:
        expect(page.frame_locator("iframe[title=Report]").locator("h1").first).to_be_visible()

    return [
        Figure("airflow_dags", f"{settings.airflow_url}/dags", dags, height=430),
        Figure("airflow_trigger", dag, trigger, height=1025),
        Figure("airflow_graph", here, graph, height=420),
        Figure("airflow_gantt", here, gantt, height=720, storage=opened),
        Figure("airflow_log", f"{here}/tasks/framework.train/mapped/0", log, height=640),
        Figure("airflow_report", f"{here}/plugin/report", report, width=1440, height=900),
    ]


def tensorboard_figure(settings: Settings, run: Run) -> Figure:
    """The curves of the run's frameworks on the same axes."""

    def curves(page: Page) -> None:
        page.locator("runs-data-table").get_by_role("checkbox").first.check()  # of many runs TensorBoard chooses none by itself
        expect(page.locator("scalar-card line-chart canvas, scalar-card line-chart svg").first).to_be_visible()

    stored = {"ignoreOutliers": False, "stepSelectorEnabled": False, "timeSeriesSettingsPaneOpened": False, "scalarSmoothing": 0}
    stored["sideBarWidthInPercent"] = 27
    query = f"runFilter={quote(run.name)}&tagFilter=epoch"
    return Figure(
        "tensorboard", f"{settings.tensorboard_url}/?{query}#timeseries", curves, height=845, storage={"_tb_global_settings": stored}
    )


def mlflow_figure(settings: Settings, run: Run) -> Figure:
    """MLflow's comparison of the run's frameworks: in what they differ, and what they measured."""
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
    """The report by itself, in both colour schemes."""

    def whole(page: Page) -> None:
        expect(page.locator("h1").first).to_be_visible()

    return [Figure(f"report_{colours}", run.html.as_uri(), whole, height=1470, colours=colours) for colours in get_args(Colours)]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's Chromium, without a window.

    Raises:
        WindtunnelError: there is none.
    """
    path = shutil.which("chromium")
    if path is None:
        raise WindtunnelError("chromium is missing: `make figures` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def log_in(browser: Browser, settings: Settings) -> StorageState:
    """Log in to Airflow as people do; the cookies that come of it."""
    with browser.new_context(base_url=settings.airflow_url) as context:
        page = context.new_page()
        page.goto("/auth/login")
        page.get_by_label("Username").fill(USER)
        page.get_by_label("Password").fill(json.loads(password_file(settings).read_text())[USER])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/auth/" not in url)
        return context.storage_state()


def take(browser: Browser, login: StorageState, figure: Figure, paths: list[tuple[str, str]]) -> bytes:
    """The picture as PNG, of at most 256 colours: pages have few, and the file is a third of what it would be."""
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
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def settled(page: Page, paths: list[tuple[str, str]]) -> bytes:
    """A screenshot of the page once it looks as it did a moment before."""
    before = b""
    for _ in range(PATIENCE // MOMENT):
        page.wait_for_timeout(MOMENT)
        for frame in page.frames:
            frame.evaluate(WITHOUT_PATHS, paths)
        now = page.screenshot(animations="disabled", caret="hide")
        if now == before:
            return now
        before = now
    raise Error("it goes on changing")


def draw_architecture() -> Path:
    """img/architecture.dot → img/architecture.svg.

    Raises:
        WindtunnelError: Graphviz is not there.
    """
    source = IMAGES / "architecture.dot"
    if shutil.which("dot") is None:
        raise WindtunnelError("dot is missing: `make figures` installs it")
    drawn = subprocess.run(["dot", "-Tsvg", str(source)], check=True, capture_output=True).stdout
    picture = source.with_suffix(".svg")
    write_atomically(picture, drawn)
    return picture


def main() -> None:
    """Make every picture anew."""
    settings = load_settings()
    run, spoken = newest_run(settings, DAG), newest_run(settings, SPEECH)
    Airflow(settings)  # says what to do where it is not up
    made = [draw_architecture(), *draw_run(run, IMAGES), *draw_run(spoken, IMAGES)]
    paths = [(str(settings.home), ".windtunnel"), (sys.prefix, ".venv"), (str(settings.root), "windtunnel"), (str(ROOT), "windtunnel")]
    expect.set_options(timeout=PATIENCE)
    figures = [*airflow_figures(settings, run), tensorboard_figure(settings, run), mlflow_figure(settings, run), *report_figures(run)]
    with chromium() as browser:
        login = log_in(browser, settings)
        for figure in figures:
            try:
                picture = take(browser, login, figure, paths)
            except (Error, AssertionError) as error:
                reason = str(error).splitlines()[0]
                raise WindtunnelError(f"{figure.name}: {figure.url} does not show what it should ({reason})") from error
            made.append(IMAGES / f"{figure.name}.png")
            write_atomically(made[-1], picture)
    for file in made:
        print(f"{file.relative_to(ROOT)}  {file.stat().st_size / 1000:.0f} kB")
    if large := [file.name for file in made if file.stat().st_size > LIMIT]:
        raise WindtunnelError(f"more than {LIMIT // 1000} kB: {', '.join(large)}; make the window smaller in scripts/figures.py")


if __name__ == "__main__":
    run_program(main)
