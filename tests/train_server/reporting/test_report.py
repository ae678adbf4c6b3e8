import json
import re
import shutil
from dataclasses import asdict
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from benchmarks.figures import draw_run
from tests.benchmark_results import benchmark, invalidate
from tests.versions import make_version
from train_server.certificate import Check
from train_server.lenet5.model import Spec
from train_server.reporting.page import page
from train_server.reporting.plots import serving_plots
from train_server.reporting.report import explain, summarise, tabulate, tabulate_serving
from windtunnel.benchmark_result import Benchmark
from windtunnel.files import write_json
from windtunnel.model import find_model
from windtunnel.run import Run
from windtunnel.settings import Settings
from windtunnel.spans import tell
from windtunnel.tables import render

SPEC = Spec(dataset="mnist", mean=0.1307, std=0.3081, samples=60_000)
TIMES = (1000.0, 1148.0)
SPANS = """
{"activity": "training", "started": 1010.0, "ended": 1040.0}
{"activity": "training", "started": 1042.0, "ended": 1074.0}
{"activity": "measuring", "started": 1085.5, "ended": 1140.5}
"""


@pytest.fixture
def run(tmp_path):
    """A run of two frameworks, trained, registered and certified."""
    here = Run(tmp_path / "lenet5" / "manual__1")
    here.directory.mkdir(parents=True)
    here.spec_file.write_text(SPEC.model_dump_json())
    frameworks = ["libtorch", "pytorch"]
    lineage = {"dag_id": "lenet5", "run_id": "manual__1", "git_commit": "c0ffee", "mlflow_run": "parent", "frameworks": frameworks}
    write_json(here.lineage_file, lineage)
    for version, framework in enumerate(frameworks, start=3):
        make_version(here.version(framework), framework, SPEC, accuracy=0.9906)
        write_json(here.registered(framework), {"name": f"lenet5-{framework}", "version": version})
        write_json(here.gate(framework), {"promote": False, "reason": "it is worse"})
    write_json(here.certificate, {"passed": True, "checks": []})
    return here


def test_a_whole_run_lacks_nothing(run):
    result = summarise(run, *TIMES)
    assert result["missing"] == []
    assert result["parity"] == "passed"
    assert result["frameworks"]["pytorch"]["version"] == 4
    assert result["frameworks"]["pytorch"]["accuracy"] == 0.9906


def test_the_table_shows_each_version(run):
    text = render(tabulate(summarise(run, *TIMES)))
    assert "lenet5 on mnist: 60,000 images, 5 epochs, batch 64, threads 1" in text
    row = next(line for line in text.splitlines() if "lenet5-libtorch" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["lenet5-libtorch", "3", "99.06%", "0.0100", "35.0 s", "8,571", "passed", "challenger"]


def test_what_is_missing_is_named(run):
    run.registered("pytorch").unlink()
    run.certificate.unlink()
    assert summarise(run, *TIMES)["missing"] == ["a registered version of pytorch", "a parity certificate that passed (it is missing)"]


def test_a_release_that_did_not_come_to_its_gate_is_missing(run):
    run.gate("pytorch").unlink()
    assert summarise(run, *TIMES)["missing"] == ["a release of pytorch"]


def test_a_failed_certificate_is_missing_its_pass(run):
    write_json(run.certificate, {"passed": False, "checks": []})
    assert summarise(run, *TIMES)["missing"] == ["a parity certificate that passed (it failed)"]


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("mnist", []),
        (
            "fashion_mnist",
            ["(the models were trained on fashion_mnist; img/digit.png is from MNIST, so its predicted label is meaningless)"],
        ),
    ],
)
def test_a_champion_is_shown_with_how_to_ask_it_and_a_challenger_with_why(run, dataset, said):
    run.spec_file.write_text(SPEC.model_copy(update={"dataset": dataset}).model_dump_json())
    write_json(run.released("libtorch"), {"server": "torchserve", "example": "curl …"})
    result = summarise(run, *TIMES)
    assert [row["release"] for row in result["frameworks"].values()] == ["champion on torchserve", "challenger"]
    assert explain(result, Settings(home=run.directory)).splitlines() == [
        "in the project's folder, after `. .venv/bin/activate`:",
        *said,
        "send a request to lenet5-libtorch:",
        "  windtunnel predict lenet5-libtorch img/digit.png",
        "  curl …",
        "lenet5-pytorch version 4 stays challenger: it is worse",
    ]


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text of the document."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text = " ".join(f"{self.text} {data}".split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def curves(run):
    """Three epochs of each framework."""
    for framework in run.lineage().frameworks:
        lines = [{"epoch": epoch, "loss": 0.3 / epoch, "accuracy": 0.9 + 0.02 * epoch, "seconds": 7.0} for epoch in (1, 2, 3)]
        (run.version(framework) / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def measured(run, curves):
    """The run with a benchmark in which PyTorch's usual REST row is invalid."""
    result = benchmark()
    invalid = next(row for row in result["rows"] if (row["model"], row["concurrency"]) == ("lenet5-pytorch", 10))
    invalidate(invalid, "1 of 100 answers was <wrong>")
    write_json(run.benchmark, result)
    return run


def test_the_page_has_every_plot_with_a_name_and_a_caption_and_asks_for_nothing(measured):
    html = page(measured, summarise(measured, *TIMES))
    shown = Page(html)
    plots = shown.all("svg")
    assert len(plots) == len(shown.all("figcaption")) == 9
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 40 for plot in plots)
    assert all(cell["scope"] in ("col", "row") for cell in shown.all("th"))
    identifiers = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))

    loading = [value for _, attributes in shown.tags for name, value in attributes.items() if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") for value in loading)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in shown.tags}
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", html))


def test_the_page_says_what_the_run_came_to(measured):
    text = Page(page(measured, summarise(measured, *TIMES))).text
    for said in ("What the figures mean", "99.06%", "challenger: it is worse", "c0ffee", "a CPU, x86_64, threads 1", "no difference"):
        assert said in text


def test_what_the_time_was_spent_on_is_in_seconds_and_percent(run):
    run.spans.write_text(SPANS.lstrip())
    result = summarise(run, *TIMES)
    assert result["split"]["seconds"] == 148
    assert result["split"]["parts"] == {
        "training": {"seconds": 62, "percent": pytest.approx(41.89, abs=0.01)},
        "measuring": {"seconds": 55, "percent": pytest.approx(37.16, abs=0.01)},
        "orchestration": {"seconds": 31, "percent": pytest.approx(20.95, abs=0.01)},
    }
    said = "The run took 148 s: training 62 s (42 %), measuring 55 s (37 %), orchestration 31 s (21 %)."
    assert tell(result["split"]) == f"{said}\n"
    assert f"{said} Orchestration is all time spent neither training nor measuring." in Page(page(run, result)).text


def test_a_run_whose_programs_noted_no_time_is_reported_without_a_split(run):
    result = summarise(run, *TIMES)
    assert result["split"] is None
    assert tell(result["split"]) == ""
    assert "The run took" not in Page(page(run, result)).text


def test_an_invalid_row_has_a_sentence_instead_of_a_figure(measured):
    html = page(measured, summarise(measured, *TIMES))
    assert "invalid: 1 of 100 answers was &lt;wrong&gt;" in html
    assert html.count("×</text>") >= 2
    text = tabulate_serving(summarise(measured, *TIMES))
    row = next(line for line in text.splitlines() if "lenet5-pytorch" in line and "rest" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["lenet5-pytorch", "rest", "invalid"]
    assert "lenet5-pytorch over rest has no figure: 1 of 100 answers was <wrong>" in text
    assert max(map(len, text.splitlines()[:9])) < 80


def test_the_certificate_on_the_page_says_what_was_found_and_what_chance_gives(run, curves):
    checks = [
        Check("test images that only one gets right", "libtorch, pytorch", 1400),
        Check("difference of the test accuracies", "libtorch, pytorch", 0.04, 0.0178),
    ]
    write_json(run.certificate, {"passed": False, "checks": [asdict(check) | {"passed": check.passed} for check in checks]})
    text = " ".join(Page(page(run, summarise(run, *TIMES))).text.split())
    assert "test images that only one gets right libtorch, pytorch 1,400 difference" in text
    assert "difference of the test accuracies libtorch, pytorch 0.04 at most 0.0178 missed" in text
    assert "allows for chance: 99.9% of runs with equal trainings stay within it." in text


def test_a_run_that_was_not_measured_says_so(run, curves):
    result = summarise(run, *TIMES)
    assert result["benchmark"] is None
    assert tabulate_serving(result) == "Serving was not measured in this run.\n"
    shown = Page(page(run, result))
    assert "Serving was not measured in this run." in shown.text
    assert len(shown.all("svg")) == 4


def test_a_benchmark_that_was_stopped_is_shown_as_far_as_it_came(run, curves):
    result = benchmark() | {"partial": True}
    for row in result["rows"][5:]:
        invalidate(row, None)
    write_json(run.benchmark, result)
    shown = Page(page(run, summarise(run, *TIMES)))
    assert "The benchmark was stopped before its end" in shown.text
    assert "not measured" in shown.text
    assert len(shown.all("svg")) == 9


def test_a_run_that_failed_before_it_trained_has_a_page_too(run):
    for framework in run.lineage().frameworks:
        run.registered(framework).unlink()
        shutil.rmtree(run.version(framework))
    run.certificate.unlink()
    text = Page(page(run, summarise(run, *TIMES))).text
    assert "This run is incomplete. It lacks a registered version of libtorch, a registered version of pytorch, a parity" in text
    assert "No version was registered." in text


@pytest.mark.parametrize(("floored", "drawn"), [((50,), ["50"]), ((), None)])
def test_the_share_of_the_floor_is_drawn_where_it_was_measured(floored, drawn):
    result = benchmark()
    for row in result["rows"]:
        if row["concurrency"] not in floored:
            row |= {"floor": [], "share_of_floor": None}
    plots = {plot.name: plot for plot in serving_plots(Benchmark.model_validate(result))}
    assert ("share_of_floor" in plots) == bool(drawn)
    if drawn:
        figure, axes = plt.subplots()
        plots["share_of_floor"].draw(axes)
        assert [label.get_text() for label in axes.get_xticklabels()] == drawn
        plt.close(figure)


def test_the_plots_of_a_run_are_pictures_too(measured, tmp_path):
    for picture in draw_run(measured, tmp_path / "img"):
        assert Image.open(picture).size > (1000, 700)
        assert picture.stat().st_size < 300_000
    assert {file.name for file in (tmp_path / "img").iterdir()} == {"training.png", "serving.png"}


@pytest.fixture
def blobs(tmp_path, extension):
    """A run of a model of another package, which has no certificate and no file to try it with, and whose metric is an error."""
    here, spec = Run(tmp_path / "blobs" / "manual__1"), find_model("blobs").spec(dataset="drawn", samples=320, epochs=3)
    here.directory.mkdir(parents=True)
    here.spec_file.write_text(spec.model_dump_json())
    lineage = {"dag_id": "blobs", "run_id": "manual__1", "git_commit": "c0ffee", "mlflow_run": "parent", "frameworks": ["numpy"]}
    write_json(here.lineage_file, lineage)
    make_version(here.version("numpy"), "numpy", spec, accuracy=12.5)
    lines = [{"epoch": epoch, "loss": 0.3 / epoch, "error": 20.0 - epoch, "seconds": 7.0} for epoch in (1, 2, 3)]
    (here.version("numpy") / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(here.registered("numpy"), {"name": "blobs-numpy", "version": 3})
    write_json(here.released("numpy"), {"server": "torchserve", "example": "curl …"})
    return here


def test_a_model_without_a_certificate_lacks_none(blobs):
    result = summarise(blobs, *TIMES)
    assert (result["missing"], result["parity"]) == ([], None)
    text = render(tabulate(result))
    assert "blobs on drawn: 320 samples, 3 epochs, batch 64, threads 1" in text
    heading, row = ([cell.strip() for cell in line[1:-1].split(line[0])] for line in (text.splitlines()[2], text.splitlines()[4]))
    assert heading == ["registered model", "version", "test error", "training loss", "training time", "samples/s", "release"]
    assert row == ["blobs-numpy", "3", "12.500", "0.0100", "35.0 s", "8,571", "champion on torchserve"]
    assert explain(result, Settings(home=blobs.directory)).splitlines()[1:] == ["send a request to blobs-numpy:", "  curl …"]


def test_its_page_speaks_of_its_samples_and_its_metric(blobs):
    shown = Page(page(blobs, summarise(blobs, *TIMES)))
    for said in ("320 samples", "Test error", "Samples/s", "12.500", "The error on the test set after each epoch; lower is better."):
        assert said in shown.text
    for foreign in ("image", "ccuracy", "arity", "same weights", "cross-entropy"):
        assert foreign not in shown.text
    assert len(shown.all("svg")) == 4
