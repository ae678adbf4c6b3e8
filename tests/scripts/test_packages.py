"""Installing Python packages: uv finds what pip is told of, and where it cannot, pip does."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from windtunnel.settings import ROOT

NAME = "windtunnel_probe"
ELSEWHERE = "http://127.0.0.1:9/simple"  # where no index answers


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """A folder with a package that no index has."""
    folder = tmp_path / "links"
    folder.mkdir()
    about = f"{NAME}-1.dist-info"
    with ZipFile(folder / f"{NAME}-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{NAME}.py", "")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"{NAME}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return folder


def install(target: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Install the package by the tests' own uv and pip into a folder, under these settings and no others."""
    script = f'. scripts/packages.sh; constraints=/dev/null; install_packages "{sys.executable}" --target "{target}" {NAME}'
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    environment = kept | {"PIP_CONFIG_FILE": os.devnull} | settings
    return subprocess.run(["sh", "-ec", script], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("told", ["by the environment", "in a file"])
def test_uv_finds_what_pip_is_told_of(links: Path, tmp_path: Path, told: str) -> None:
    (tmp_path / "pip.conf").write_text(f"[global]\nfind-links = {links}\nindex-url = {ELSEWHERE}\n")
    settings = (
        {"PIP_FIND_LINKS": str(links), "PIP_INDEX_URL": ELSEWHERE}
        if told == "by the environment"
        else {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    )
    done = install(tmp_path / "target", **settings, UV_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "target" / f"{NAME}.py").exists()
    assert "using pip" not in done.stdout


def test_where_uv_cannot_pip_does(links: Path, tmp_path: Path) -> None:
    told_otherwise = {"UV_FIND_LINKS": str(tmp_path / "nowhere"), "UV_OFFLINE": "1"}
    done = install(tmp_path / "target", PIP_FIND_LINKS=str(links), PIP_NO_INDEX="1", **told_otherwise)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "target" / f"{NAME}.py").exists()
    assert "uv could not install the packages: using pip" in done.stdout


def test_where_neither_can_the_script_fails(tmp_path: Path) -> None:
    assert install(tmp_path / "target", PIP_NO_INDEX="1", UV_OFFLINE="1").returncode != 0
