"""The DAG `release` as Airflow reads it; that it runs, tests/e2e/shared/test_models_api.py shows."""

import pytest


@pytest.fixture(scope="module")
def dag(read_dag):
    return read_dag("release")


def test_it_imports_little_and_no_framework(dag):
    assert len(dag["modules"]) < 150  # Airflow reads the file again and again
    assert dag["heavy"] == []


def test_it_runs_only_when_somebody_triggers_it_and_does_a_thing_once(dag):
    assert dag["schedule"] == "None"
    assert dag["retries"] == {"release": 0}
    assert dag["pools"] == {"release": "default_pool"}  # it does not wait for a training
    assert dag["outlets"] == {"release": ["champions"]}


def test_the_form_has_titles_and_wants_a_reason(dag):
    forms = dag["forms"]
    assert list(forms) == ["action", "model", "version", "reason"]
    assert all(form["title"] and form["description"] for form in forms.values())
    assert forms["action"]["enum"] == ["promote", "roll back", "reconcile"]
    assert (forms["reason"]["type"], forms["reason"]["minLength"]) == ("string", 3)
    assert dag["params"]["reason"] is None  # the form cannot be sent without one
    assert (forms["version"]["type"], dag["params"]["version"]) == (["null", "integer"], None)
    assert "roll back" in forms["version"]["description"]
