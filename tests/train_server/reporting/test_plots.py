import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from tests.benchmark_results import benchmark
from train_server.reporting.drawing import UNDECLARED
from train_server.reporting.plots import serving_key, serving_plots, training_key, training_plots, write_png
from windtunnel.benchmark_result import Benchmark
from windtunnel.model import find_model

LINE = {"epoch": 1, "loss": 0.1, "accuracy": 0.9, "seconds": 1.0, "samples_per_second": 1.0}


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def renamed(model, framework):
    """The result of a benchmark, in which a model takes the place of `lenet5-pytorch`."""
    result = benchmark()
    for row in result["rows"]:
        if row["model"] == "lenet5-pytorch":
            row |= {"model": model, "framework": framework}
    return Benchmark.model_validate(result)


def colours(axes):
    """The colour of each series in a plot of bars, by its name in the legend."""
    return {bars.get_label(): to_hex(bars.patches[0].get_edgecolor()) for bars in axes.containers if hasattr(bars, "patches")}


@pytest.mark.usefixtures("extension")
def test_a_framework_of_another_package_is_drawn_as_it_declares(axes):
    curves = {"pytorch": [LINE], "numpy": [LINE]}
    training_plots(find_model("lenet5"), curves)[0].draw(axes)
    assert [(line.get_label(), line.get_color(), line.get_marker()) for line in axes.lines] == [
        ("pytorch", "#D55E00", "s"),
        ("numpy", "#123456", "*"),
    ]


@pytest.mark.parametrize(
    ("model", "framework", "name", "colour"),
    [
        ("lenet5-numpy", "numpy", "numpy", "#123456"),
        ("blobs-numpy", "numpy", "numpy", "#123456"),
        ("cats-pytorch", "pytorch", "cats-pytorch", UNDECLARED[0]),
    ],
)
@pytest.mark.usefixtures("extension")
def test_a_measured_model_is_drawn_as_its_framework_declares(axes, model, framework, name, colour):
    serving_plots(renamed(model, framework))[0].draw(axes)
    found = colours(axes)
    assert found["libtorch REST"] == "#0072b2"
    assert found[f"{name} REST"] == colour.lower()


@pytest.mark.usefixtures("extension")
def test_two_models_of_one_framework_go_by_their_whole_names(axes):
    result = renamed("blobs-numpy", "numpy")
    rows = [
        row.model_copy(update={"model": "lenet5-numpy", "framework": "numpy"}) if row.framework == "libtorch" else row
        for row in result.rows
    ]
    serving_plots(result.model_copy(update={"rows": rows}))[0].draw(axes)
    assert set(colours(axes)) >= {"blobs-numpy REST", "lenet5-numpy REST", "tensorflow REST"}


def test_each_round_is_a_dot_beside_the_bar_of_their_median(axes):
    result = Benchmark.model_validate(benchmark())
    serving_plots(result)[0].draw(axes)
    rows = [row for row in result.rows if row.batch == 1 and row.loop == "closed"]
    heights = sorted(bar.get_height() for bars in axes.containers for bar in bars)
    assert heights == pytest.approx(sorted(row.rate for row in rows))
    drawn = sorted(value for dots in axes.collections for _, value in dots.get_offsets())
    assert drawn == pytest.approx(sorted(value for row in rows for value in row.requests_per_second))


@pytest.mark.usefixtures("extension")
def test_the_key_names_each_framework_once_as_it_is_drawn():
    keys = [(key.name, key.colour, key.symbol) for key in serving_key(renamed("lenet5-numpy", "numpy"))]
    assert keys == [("libtorch", "#0072B2", "●"), ("numpy", "#123456", "★"), ("tensorflow", "#E69F00", "▲")]
    assert [key.name for key in training_key(find_model("lenet5"), {"pytorch": [LINE], "numpy": [LINE]})] == ["pytorch", "numpy"]


def test_a_picture_of_several_plots_has_their_legend_once(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(plt, "close", closed.append)
    write_png(serving_plots(Benchmark.model_validate(benchmark())), "Serving", tmp_path / "serving.png")
    monkeypatch.undo()
    [figure] = closed
    plt.close(figure)
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["libtorch REST", "libtorch gRPC"]
    assert [axes.get_legend() for axes in figure.axes if axes.get_legend()] == []
