"""What the plugin with the report's page costs Airflow's processes that show none; the page is in tests/e2e/shared/test_report_page.py."""

import json
import subprocess
import sys

from tests.waiting import PATIENCE

IMPORT = """
import json, sys
import airflow.sdk.plugins_manager
before = set(sys.modules)
from dags.reports import Reports
Reports().external_views
print("LOADED" + json.dumps(sorted(set(sys.modules) - before)))
"""


def test_it_imports_nothing_before_a_page_is_served(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=PATIENCE, check=True, env={"AIRFLOW_HOME": str(tmp_path)}
    )
    assert set(json.loads(done.stdout.partition("LOADED")[2])) <= {"dags", "dags.reports", "html", "html.entities"}
