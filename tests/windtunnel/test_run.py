import subprocess

import pytest

from windtunnel.errors import WindtunnelError
from windtunnel.run import Run, git_commit


def git(directory, *words):
    subprocess.run(["git", "-C", directory, "-c", "user.name=a", "-c", "user.email=a@example.org", *words], check=True, capture_output=True)


def test_git_commit_tells_a_changed_checkout_from_a_clean_one(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    clean = git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path) == f"{clean}-dirty"


def test_git_commit_outside_a_checkout_is_unknown(tmp_path):
    assert git_commit(tmp_path) == "unknown"


def test_git_commit_in_an_image_is_the_one_it_was_built_from(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDTUNNEL_COMMIT", "c0ffee")
    assert git_commit(tmp_path) == "c0ffee"


def test_a_run_without_lineage_says_how_to_start_one(tmp_path):
    with pytest.raises(WindtunnelError, match=r"lineage\.json cannot be read .*; start the run with its `conditions` task"):
        Run(tmp_path).lineage()


def test_a_run_with_another_framework_in_its_lineage_is_refused(tmp_path):
    (tmp_path / "lineage.json").write_text('{"dag_id": "", "run_id": "", "git_commit": "", "mlflow_run": "", "frameworks": ["jax"]}')
    with pytest.raises(WindtunnelError, match=r"frameworks\.0: .*found 'jax'"):
        Run(tmp_path).lineage()
