"""Which files of dags/ Airflow reads: those that make a DAG or tell why there is none. It starts a process for each again and again."""

import json
import os
import subprocess
import sys

from windtunnel.settings import ROOT

LIST = "import json; from airflow.utils.file import list_py_file_paths; print(json.dumps(list_py_file_paths('dags')))"


def test_airflow_reads_the_files_that_make_a_dag_or_tell_why_there_is_none(tmp_path):
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", LIST], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    files = ["declared.py", "lenet5.py", "release.py", "speech_commands.py", "wrong_declarations.py"]
    assert sorted(json.loads(done.stdout.splitlines()[-1])) == [f"dags/{file}" for file in files]
