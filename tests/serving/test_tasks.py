"""The steps of a release as programs; that they do what they say, tests/e2e shows."""

import json
import subprocess
import sys

IMPORT = "import json, sys; import serving.tasks; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
HEAVY = {"airflow", "fastapi", "matplotlib", "mlflow", "pandas", "tensorflow", "torch"}


def test_a_step_imports_what_all_of_them_need_and_no_more():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(done.stdout)) == set()
