"""The steps of a release as programs; that they do what they say, tests/e2e shows."""

import json
import subprocess
import sys

import pytest

from serving.release import tasks
from serving.release.release import Release
from windtunnel.run import SKIPPED, Lineage, Run
from windtunnel.settings import ROOT

IMPORT = "import json, sys; import serving.release.tasks; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
HEAVY = {"airflow", "fastapi", "matplotlib", "mlflow", "pandas", "tensorflow", "torch"}


def test_a_step_imports_what_all_of_them_need_and_no_more():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(done.stdout)) == set()


def test_versions_on_a_server_that_cannot_be_measured_are_not(tmp_path, monkeypatch, capsys):
    run = Run(tmp_path)
    lineage = Lineage(dag_id="lenet5", run_id="test", git_commit="c0ffee", mlflow_run="parent", frameworks=("pytorch",))
    run.lineage_file.write_text(lineage.model_dump_json())
    run.verified("pytorch").write_text("{}")
    run.registered("pytorch").write_text('{"name": "speech-commands", "version": 1}')
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit) as ended:
        tasks.benchmark(tmp_path, 0.1)
    assert ended.value.code == SKIPPED
    assert capsys.readouterr().out == "no version of this run is on a server that the benchmark can measure\n"


def test_a_version_that_another_run_has_displaced_is_loaded_again_and_measured(small_house, trained, tmp_path):
    release = Release(small_house.settings, "lenet5-tensorflow")
    first, second = (small_house.register(trained("tensorflow", seed)).version for seed in (1, 2))
    for number in (first, second):  # two runs have come as far as this
        release.verify(number)
    assert release.server.served(release.name).versions == {second}

    run = Run(tmp_path)
    lineage = Lineage(dag_id="lenet5", run_id="test", git_commit="c0ffee", mlflow_run="parent", frameworks=("tensorflow",))
    run.lineage_file.write_text(lineage.model_dump_json())
    run.verified("tensorflow").write_text("{}")
    run.registered("tensorflow").write_text(json.dumps({"name": release.name, "version": first}))
    command = [sys.executable, "-m", "serving.release.tasks", "benchmark", "--run", str(run.directory), "--seconds", "0.05"]
    done = subprocess.run(command, cwd=ROOT, env=small_house.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert first in release.server.served(release.name).versions
    assert run.benchmark.exists()
