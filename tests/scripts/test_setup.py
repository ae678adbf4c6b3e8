"""What `make setup` does about its folder, in projects that hold only that."""

import fcntl
import shutil
import subprocess
import sys

import pytest

from windtunnel.settings import ROOT


@pytest.fixture
def project(tmp_path):
    """A folder with the scripts, and a module that says where it is."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    (folder / "probe.py").write_text("")
    return folder


def test_a_second_setup_waits_for_the_first_and_says_so(project):
    (project / ".venv").mkdir()
    with (project / ".venv" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("process 7 since yesterday")
        held.flush()
        with subprocess.Popen([project / "scripts" / "setup.sh"], stdout=subprocess.PIPE, text=True) as setup:
            said = setup.stdout.readline()
            waits = setup.poll() is None
            setup.kill()
    assert f"Waiting for another setup of {project} to end: process 7 since yesterday" in said
    assert waits


@pytest.mark.parametrize("name", ["a:b", "a;b", "$HOME"], ids=["colon", "semicolon", "dollar"])
def test_a_folder_that_the_tools_would_misread_is_refused_in_one_line(project, name):
    folder = project.rename(project.parent / name)
    done = subprocess.run([folder / "scripts" / "setup.sh"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: the path of the project's folder contains ':', ';' or '$': found {folder}. Move it to another path\n"
    assert not (folder / ".venv").exists()


def told(folder):
    """Where the program `pip` of a project's virtual environment, and its Python, find what they run."""
    environment = folder / ".venv"
    version = subprocess.run([environment / "bin" / "pip", "--version"], cwd="/", capture_output=True, text=True, check=True).stdout
    code = "import probe; print(probe.__file__)"
    return version, subprocess.run([environment / "bin" / "python", "-c", code], cwd="/", capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["copy", 'it\'s a "cöpy" %2F #1'], ids=["plain", "strange"])
def test_a_copied_and_a_moved_project_run_their_own_code(project, name):
    environment = project / ".venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "_windtunnel.pth").write_text(str(project))  # as pip's editable installation leaves it
    before = told(project)
    subprocess.run([environment / "bin" / "python", project / "scripts" / "relocatable.py"], check=True)
    assert told(project) == before

    copy = project.parent / name
    shutil.copytree(project, copy, symlinks=True)
    version, module = told(copy)
    assert f" from {copy}/.venv/" in version
    assert module == f"{copy}/probe.py\n"

    moved = copy.rename(project.parent / "moved")
    shutil.rmtree(project)
    assert told(moved)[1] == f"{moved}/probe.py\n"
