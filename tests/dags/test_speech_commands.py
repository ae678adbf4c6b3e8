"""The DAG as Airflow reads it; that it runs, tests/e2e/test_speech.py shows."""

import pytest

from tests.dags.texts import check_texts


@pytest.fixture(scope="module")
def dag(read_dag):
    return read_dag("speech_commands")


def test_it_imports_little_and_no_framework(dag):
    assert len(dag["modules"]) < 150  # Airflow reads the file again and again
    assert dag["heavy"] == []


def test_what_follows_what(dag):
    after = dag["downstream"]
    assert after["conditions"] == ["baseline", "train", "watcher"]
    assert after["train"] == after["baseline"] == ["evaluate", "watcher"]
    assert after["fire_drill"] == ["settle", "watcher"]
    assert after["settle"] == ["report", "watcher"]
    assert dag["pools"]["train"] == dag["pools"]["baseline"] == "measured"


def test_suggestions_are_settled_and_reported_whatever_happens(dag):
    assert dag["rules"] == {
        "evaluate": "none_failed_min_one_success",
        "settle": "all_done",
        "report": "all_done",
        "watcher": "none_failed",
    }
    assert dag["runs"] == 1  # a claim that another run left behind is of one that has ended


def test_a_person_reads_what_it_does_and_what_is_asked(dag):
    check_texts(dag)
    assert dag["names"]["settle"] == "Settle suggestions"
    assert dag["tags"] == ["audio", "release", "suggestions", "train"]
