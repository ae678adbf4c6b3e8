"""The least that has all a real run has: a mapped task that logs, a report after it, parameters with limits, and failure on demand."""

import time

from airflow.sdk import DAG, Param, get_current_context, task

from windtunnel.files import write_atomically, write_json
from windtunnel.log_groups import folded
from windtunnel.settings import load_settings, run_directory

PARAMS = {
    "names": Param(["a", "b"], type="array", items={"type": "string", "enum": ["a", "b", "c"]}),
    "seconds": Param(0, type="number", minimum=0),
    "fail": Param(False, type="boolean"),
}

with DAG("trivial", schedule=None, params=PARAMS):

    @task
    def names():
        return get_current_context()["params"]["names"]

    @task(map_index_template="{{ name }}")
    def work(name):
        context = get_current_context()
        context["name"] = name
        with folded("details"):  # in Airflow's log view; the command line shows the line
            print(f"working on {name}", flush=True)
        time.sleep(context["params"]["seconds"])
        if context["params"]["fail"] and name == "b":
            raise ValueError("b was told to fail")

    @task
    def report():
        context = get_current_context()
        names = context["params"]["names"]
        directory = run_directory(load_settings().home, "trivial", context["run_id"])
        write_json(directory / "report.json", {"names": names})
        write_atomically(directory / "report.txt", f"trained {', '.join(names)}\n".encode())

    work.expand(name=names()) >> report()
