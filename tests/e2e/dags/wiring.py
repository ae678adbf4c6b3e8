"""The second half of the DAG `lenet5` with programs of a line each, and a DAG that follows a promotion.

The gate takes `seconds` and ends with the exit status that `status` gives a name.
"""

import sys

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, TriggerRule, get_current_context, task, task_group

from dags.assets import CHAMPIONS, champion, promoted
from dags.operators.approval import Approve
from dags.operators.runtime import ProcessOperator
from dags.operators.skipping import only_if
from windtunnel.files import write_json
from windtunnel.settings import load_settings, run_directory

RUN = "{{ run_directory(dag.dag_id, run_id) }}"
NAMED = {"map_index_template": "{{ task.command[-1] }}"}
START = """
import json, pathlib, sys, time
told, run, name = sys.argv[1:]
run = pathlib.Path(run)
run.mkdir(parents=True, exist_ok=True)
"""
GATE = """
(run / f"{name}.registered.json").write_text(json.dumps({"name": name, "version": 7, "accuracy": 0.991}))
(run / f"{name}.gate.md").write_text(f"| | {name} |\\n|---|---|\\n| accuracy | 99.10 % |\\n")
params = json.loads(told)
time.sleep(params["seconds"])
print(f"{name} was judged")
sys.exit(params["status"].get(name, 0))
"""
PROMOTE = """
(run / f"{name}.released.json").write_text(json.dumps({"server": "none", "approved_by": told}))
"""
DRILL = """
(run / f"{name}.drill").touch()
"""


def program(code, told, name, **options):
    return ProcessOperator(command=[sys.executable, "-c", START + code, told, RUN, name], **NAMED, **options)


with DAG(
    "wiring",
    schedule=None,
    params={
        "names": Param(["wiring-a", "wiring-b"], type="array", items={"type": "string"}),
        "status": Param({}, type="object"),
        "seconds": Param(0, type="number"),
        "approve": Param(False, type="boolean"),
        "fire_drill": Param(False, type="boolean"),
    },
    user_defined_macros={"run_directory": lambda dag_id, run_id: run_directory(load_settings().home, dag_id, run_id)},
):

    @task
    def names():
        return get_current_context()["params"]["names"]

    @task_group
    def release(name):
        gate = program(GATE, "{{ params | tojson }}", name, task_id="gate")
        approve = Approve(run=RUN, framework=name, task_id="approve", map_index_template="{{ task.framework }}")
        promote = program(PROMOTE, approve.output, name, task_id="promote", outlets=[CHAMPIONS], post_execute=promoted)
        drill = program(DRILL, "", name, task_id="fire_drill", pre_execute=only_if("fire_drill"))
        gate >> approve >> promote >> drill

    report = EmptyOperator(task_id="report", trigger_rule=TriggerRule.ALL_DONE)
    watcher = EmptyOperator(task_id="watcher", trigger_rule=TriggerRule.NONE_FAILED)
    release.expand(name=names()) >> [report, watcher]

with DAG("follower", schedule=champion("wiring-a")):

    @task
    def follow():
        context = get_current_context()
        events = [{"extra": event.extra} for event in context["triggering_asset_events"][champion("wiring-a")]]
        write_json(run_directory(load_settings().home, "follower", context["run_id"]) / "report.json", {"events": events})

    follow()
