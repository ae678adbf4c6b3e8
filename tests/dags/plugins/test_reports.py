"""What the plugins with pages and links cost Airflow's processes that show none; tests/e2e/shared shows the pages and the links."""

import json
import subprocess
import sys

import pytest

from tests.waiting import PATIENCE

IMPORT = """
import importlib, json, sys
import airflow.sdk.plugins_manager
from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf
before = set(sys.modules)
plugin = getattr(importlib.import_module("dags.plugins." + sys.argv[1]), sys.argv[1].capitalize())()
plugin.external_views, plugin.operator_extra_links
print("LOADED" + json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.parametrize("plugin", ["docs", "links", "reports"])
def test_it_imports_nothing_before_a_page_is_served(tmp_path, plugin):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, plugin],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        env={"AIRFLOW_HOME": str(tmp_path)},
    )
    assert set(json.loads(done.stdout.partition("LOADED")[2])) <= {
        "dags",
        "dags.plugins",
        f"dags.plugins.{plugin}",
        "dags.web",
        "html",
        "html.entities",
    }
