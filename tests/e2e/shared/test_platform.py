"""The platform as its users meet it: the command line, real servers, real runs."""

import json
import os
import pty
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import psutil

from tests.waiting import PATIENCE, RUN_PATIENCE, wait_for
from windtunnel.cli.watch import watch
from windtunnel.platform import lifecycle
from windtunnel.platform.airflow import Airflow


def one_line(text):
    """The text of a one-line error."""
    assert text.startswith("error: ")
    assert text.count("\n") == 1, text
    return text


def test_all_processes_are_up_and_a_second_up_changes_nothing(platform):
    before = platform.json("status")
    assert before["up"]
    names = [process["name"] for process in before["processes"]]
    airflow = ["scheduler", "dag-processor", "api-server", "triggerer"]
    assert names == ["supervisor", *airflow, "mlflow", "tensorboard", "models_api", "torchserve", "tfserving", "speech"]
    assert all(process["up"] and process["memory"] > 0 for process in before["processes"])

    again = platform.json("up")
    assert again["started"] is False
    assert [each["pid"] for each in platform.json("status")["processes"]] == [each["pid"] for each in before["processes"]]
    for address in ("airflow", "mlflow", "tensorboard"):
        assert httpx.get(again[address], follow_redirects=True, trust_env=False, timeout=PATIENCE).is_success


def test_airflow_shows_no_import_error_of_a_plugin_or_a_dag(platform):
    airflow = Airflow(platform.settings)
    plugins = {plugin["name"] for plugin in airflow._request("GET", "/api/v2/plugins")["plugins"]}
    assert {"models", "reports", "writes"} <= plugins
    for kind in ("plugins/importErrors", "importErrors"):
        assert airflow._request("GET", f"/api/v2/{kind}")["import_errors"] == []


def test_a_run_waits_while_another_process_writes_to_the_database(platform):
    writer = sqlite3.connect(platform.settings.home / "airflow.db", isolation_level=None, timeout=PATIENCE)
    with closing(writer):
        writer.execute("BEGIN IMMEDIATE")
        with platform.start("run", "trivial", "--param", "names=a") as started:
            asking = psutil.Process(started.pid)
            wait_for(lambda: platform.settings.airflow_port in [each.raddr.port for each in asking.net_connections() if each.raddr])
            time.sleep(7)  # SQLite waits 5 s by default
            writer.execute("ROLLBACK")
            _, errors = started.communicate(timeout=PATIENCE)
    assert started.returncode == 0, errors


def test_runs_started_at_the_same_moment_all_run(platform):
    airflow = Airflow(platform.settings)
    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(lambda _: airflow.trigger("trivial", {"names": ["a"]}), range(6)))
    assert len(set(runs)) == 6
    for run in runs:
        assert list(watch(platform.settings, airflow, "trivial", run, print))[-1].state == "success"


def test_a_run_succeeds_and_its_progress_is_shown(platform):
    done = platform.windtunnel("run", "trivial", "--param", "names=a,c", "--param", "seconds=2", "--json")
    result = json.loads(done.stdout)
    assert result["state"] == "success"
    assert {task["name"]: task["state"] for task in result["tasks"]} == {
        "names": "success",
        "work[a]": "success",
        "work[c]": "success",
        "report": "success",
    }
    assert result["result"] == {"names": ["a", "c"]}
    assert "working on a" in done.stderr
    assert "working on c" in done.stderr


def test_the_report_of_a_run_and_the_addresses_are_printed(platform):
    shown = platform.windtunnel("run", "trivial").stdout
    assert "trained a, b\n" in shown
    for address in (
        f"{platform.settings.airflow_url}/dags/trivial/runs/manual__",
        platform.settings.mlflow_url,
        platform.settings.tensorboard_url,
    ):
        assert address in shown


def test_a_terminal_shows_a_table(platform):
    leader, follower = pty.openpty()
    with platform.start("run", "trivial", stderr=follower) as run:
        os.close(follower)
        shown = b""
        while True:
            try:
                read = os.read(leader, 65536)
            except OSError:  # how Linux says that the other side has closed
                break
            shown += read
        os.close(leader)
        assert run.wait() == 0
    assert "✓" in shown.decode()
    assert "work[b]" in shown.decode()


def test_a_failed_run_shows_the_log_of_the_task(platform):
    done = platform.windtunnel("run", "trivial", "--param", "fail=true", status=1)
    assert "work[b] failed. The last lines of its log:" in done.stderr
    assert "ValueError: b was told to fail" in done.stderr
    assert "/tasks/work/mapped/1" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: run manual__")
    assert "failed (work[b])" in done.stderr.splitlines()[-1]


def test_a_task_that_cannot_be_run_says_why_in_its_log_and_on_the_command_line(platform):
    """A number beyond 64 bits cannot be handed to a task's process, which then never begins."""
    done = platform.windtunnel("run", "trivial", "--param", f"seconds={10**30}", "--json", status=1)
    failed = {task["name"]: task["state"] for task in json.loads(done.stdout)["tasks"]}
    assert failed["names"] == "failed"
    assert "names failed. The last lines of its log:\n  The task could not be run: OverflowError: " in done.stderr
    logs = list(
        (platform.settings.logs / "tasks" / "dag_id=trivial").glob(f"run_id={json.loads(done.stdout)['run_id']}/task_id=names/*.log")
    )
    assert [json.loads(line)["level"] for file in logs for line in file.read_text().splitlines()] == ["error"]


def test_what_cannot_be_run_is_said_in_one_line(platform):
    assert "there is no DAG 'nothing'" in one_line(platform.windtunnel("run", "nothing", status=1).stderr)
    unknown = one_line(platform.windtunnel("run", "trivial", "--param", "colour=red", status=1).stderr)
    assert "'colour'" in unknown
    assert "fail, names, seconds" in unknown
    for dag in ("lenet5", "speech_commands"):
        assert "greater than the maximum of 9223372036854775807" in one_line(
            platform.windtunnel("run", dag, "--param", f"seed={2**63}", status=1).stderr
        )
    assert "minimum of 0" in one_line(platform.windtunnel("run", "trivial", "--param", "seconds=-1", status=1).stderr)
    assert "['a', 'b', 'c']" in one_line(platform.windtunnel("run", "trivial", "--param", "names=a,z", status=1).stderr)


def test_a_dag_that_cannot_be_imported_is_named(platform):
    broken = platform.settings.dags / "broken.py"
    broken.write_text("from airflow.sdk import DAG\nimport no_such_module\nDAG('broken')\n")
    try:
        found = one_line(platform.windtunnel("run", "broken", status=1).stderr)
    finally:
        broken.unlink()
    assert "broken.py cannot be imported: ModuleNotFoundError: No module named 'no_such_module'" in found


def test_interrupting_leaves_the_run_going(platform):
    with platform.start("run", "trivial", "--param", "seconds=30") as run:
        assert any("working on" in line for line in run.stderr)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130
    address = errors.split("The run continues: ")[1].strip()
    assert address.startswith(f"{platform.settings.airflow_url}/dags/trivial/runs/manual__")


def test_a_taken_port_is_named_with_its_holder_and_the_setting(platform, own_platform):
    second = own_platform(mlflow_port=platform.settings.mlflow_port)
    error = one_line(second.windtunnel("up", status=1).stderr)
    assert f"port {platform.settings.mlflow_port} of mlflow cannot be used: in use by " in error
    assert "WINDTUNNEL_MLFLOW_PORT" in error
    pid = int(error.split("pid ")[1].split(".")[0])
    assert pid in [process.pid for process in platform.processes()]
    assert second.processes() == []


def test_a_process_that_ends_at_the_start_is_shown_and_the_rest_stopped(own_platform, tmp_path):
    # Of the second it is not enough that it runs, as it does for a moment: it is up when it answers.
    (tmp_path / "Procfile").write_text("first: exec sleep 600\nmlflow: echo no such luck; exit 7\n")
    platform = own_platform(root=tmp_path)
    error = platform.windtunnel("up", status=1).stderr
    assert "error: mlflow ended repeatedly while the platform was starting" in error
    assert "no such luck" in error
    assert str(platform.settings.logs / "mlflow.log") in error
    assert platform.processes() == []


def test_down_leaves_no_process_even_when_the_supervisor_was_killed(own_platform):
    platform = own_platform()
    with platform.start("up") as other:  # at the same time: one waits for the other
        platform.windtunnel("up")
        assert other.wait(timeout=RUN_PATIENCE) == 0
    with platform.start("run", "trivial", "--param", "seconds=600") as run:
        assert any("working on" in line for line in run.stderr)

    supervisor = next(process for process in platform.json("status")["processes"] if process["name"] == "supervisor")
    os.kill(supervisor["pid"], signal.SIGKILL)
    wait_for(lambda: not lifecycle.status(platform.settings)[0].up)
    assert not platform.json("status", status=3)["up"]
    assert len(platform.processes()) > 6

    assert platform.json("down")["stopped"] > 6
    assert platform.processes() == []
    assert platform.json("down")["stopped"] == 0
    assert not any(process["up"] for process in platform.json("status", status=3)["processes"])
