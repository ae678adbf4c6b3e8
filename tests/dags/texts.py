"""What the texts of every DAG have that a person reads in Airflow."""

import re
from typing import Any

from windtunnel.settings import ROOT

SECTIONS = ("Training", "Benchmark", "Release")
MOST_LINES = 14  # of a DAG's description, blank ones included


def check_texts(dag: dict[str, Any]) -> None:
    """Check the texts of a DAG as the fixture `read_dag` returns it: its description, tasks, groups and parameters."""
    title, *lines = dag["doc"].strip().splitlines()
    assert title.startswith("# ")
    assert len(lines) < MOST_LINES
    links = re.findall(r"\]\(/windtunnel/docs/([^)#]+)#?([^)]*)\)", dag["doc"])
    assert len(links) >= 3
    for page, anchor in links:
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], (page, anchor)

    assert dag["owners"] != ["airflow"]
    for task, name in dag["names"].items():
        assert re.fullmatch(r"[A-Z][A-Za-z' ]+", name), task
        assert len(dag["docs"][task]) > 50, task
    assert len(set(dag["names"].values())) == len(dag["names"])
    assert all(re.fullmatch(r"[A-Z][a-z ]+", name) for name in dag["groups"].values())
    assert dag["callbacks"] == ["report"]

    sections = [form["section"] for form in dag["forms"].values()]
    assert sections == sorted(sections, key=SECTIONS.index), "a section of the form is in two pieces"
    for name, form in dag["forms"].items():
        assert form["title"][0].isupper(), name
        assert "_" not in form["title"], name
        small = [str(form[rule]) for rule in ("minimum", "maximum") if rule in form]
        if len(small) == 2 and form["maximum"] < 10**6:
            assert f"{form['minimum']} to {form['maximum']:,}" in form["description"], name
