"""A search path of the test's own."""

from pathlib import Path

import pytest

from windtunnel.data import datasets


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's folder on the search path, which has no data."""
    monkeypatch.setattr(datasets, "ROOT", tmp_path / "project")
    monkeypatch.delenv("WINDTUNNEL_DATA", raising=False)
    return tmp_path / "project"
