import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from train_server.speech_commands.plots import certainty, draw_clips, plots
from windtunnel.data.clips import WORDS


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.mark.parametrize("versions", [1, 3])
def test_every_plot_of_a_run_shows_its_figures(tmp_path, versions):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "loss": 2.0, "accuracy": 0.5}) + "\n")
    accuracy, others = {"as recorded": 0.25, "telephone": 0.5, "0.2 s later": 0.75}, np.eye(8).tolist()
    evaluated = [{"name": f"version {number}", "accuracy": accuracy, "confusion": others} for number in range(versions)]
    evaluated[-1]["confusion"] = np.diag(range(1, 9)).tolist()
    drawn = plots({"versions": evaluated, "words": WORDS, "conditions": list(accuracy)}, tmp_path)
    shown = {}
    for plot in drawn:
        figure, axes = plt.subplots()
        plot.draw(axes)
        shown[plot.name] = axes
        plt.close(figure)
    assert sorted(bar.get_height() for bar in shown["accuracies"].patches) == sorted(versions * [0.25, 0.5, 0.75])
    assert [text.get_text() for text in shown["confused"].texts] == [str(count) for count in range(1, 9)]
    assert [label.get_text() for label in shown["confused"].get_yticklabels()] == list(WORDS)
    assert {name: shown[name].lines[0].get_xydata().tolist() for name in ("loss", "learned")} == {"loss": [[1, 2]], "learned": [[1, 0.5]]}


def test_how_sure_it_is_is_shown_by_kind(axes):
    plot = certainty({"right": np.array([0.9, 0.92, 0.5]), "wrong": np.array([]), "backwards": np.array([0.2])}, 0.4)
    plot.draw(axes)
    heights = [[bar.get_height() for bar in bars if bar.get_height()] for bars in axes.containers]
    assert [pytest.approx(each) for each in heights] == [[1 / 3, 2 / 3], [], [1]]
    assert list(axes.lines[0].get_xdata()) == [0.4, 0.4]
    assert "0.40" in plot.caption


def test_clips_are_shown_with_what_the_network_is_given_on_one_scale():
    clips = np.full((2, 16_000), -16_384, np.int16)
    features = np.array([np.zeros((40, 79)), np.ones((40, 79))])
    figure = plt.figure()
    draw_clips(figure, clips, features, ["left", "right"])
    waveforms, spectrograms = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title() for axes in waveforms] == ["left", "right"]
    assert [set(axes.lines[0].get_ydata()) for axes in waveforms] == [{-0.5}, {-0.5}]
    assert [axes.images[0].get_array().tolist() for axes in spectrograms] == features.tolist()
    assert [axes.images[0].get_clim() for axes in spectrograms] == [(0, 1), (0, 1)]
    plt.close(figure)
