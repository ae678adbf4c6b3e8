"""Promote, roll back and reconcile as the task of the DAG `release` does, with a real registry and the embedded server."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.release import audit
from serving.release.release import Cause, Release
from tests.waiting import PATIENCE
from windtunnel.aliases import Aliases
from windtunnel.settings import ROOT, run_directory

NAME = "lenet5-tensorflow"
RUN_ID = "manual__1:1+1"


@pytest.fixture(scope="module")
def versions(small_house, trained):
    """Two registered versions, 1 and 2."""
    return [small_house.register(trained("tensorflow", seed)).version for seed in (1, 2)]


@pytest.fixture
def by_hand(small_house):
    """Runs the program; the directory of its run is that of a DAG run."""
    run = run_directory(small_house.settings.home, "release", RUN_ID)

    def act(action, status=0, **flags):
        words = [f"--{name}={value}" for name, value in ({"who": "ada", "why": "the new data"} | flags).items()]
        command = [sys.executable, "-m", "serving.release.by_hand", action, "--run", str(run), "--run-id", RUN_ID, *words]
        done = subprocess.run(command, cwd=ROOT, env=small_house.environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    act.run = run
    return act


def error(done):
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_version_is_promoted_and_rolled_back_by_a_person_with_a_reason(by_hand, versions, small_house):
    aliases, log = Aliases(small_house.settings), small_house.settings.serving
    assert "has no previous version" in error(_no_previous(by_hand, versions))
    done = by_hand("promote", model=NAME, version=2, why="--help <b>'\"; $(x)")
    assert done.stdout == f"users get {NAME} version 2 from tfserving\n"
    assert aliases.of(NAME) == {"champion": 2, "previous": 1}
    last = audit.read(log)[-1]
    assert (last["action"], last["who"], last["why"]) == ("promote", "ada", "--help <b>'\"; $(x)")
    assert (last["run"], last["run_id"]) == ("release/manual__1-1-1", RUN_ID)
    released = json.loads((by_hand.run / "tensorflow.released.json").read_text())
    assert (released["name"], released["version"], released["server"]) == (NAME, 2, "tfserving")
    assert 0 <= released["accuracy"] <= 1

    by_hand("roll back", model=NAME, who="grace", why="wrong sevens")
    assert aliases.of(NAME) == {"champion": 1, "previous": 2}
    assert small_house.server("tfserving").served(NAME).champion == 1
    last = audit.read(log)[-1]
    assert (last["action"], last["from_version"], last["to_version"]) == ("roll back", 2, 1)
    assert (last["who"], last["why"], last["run"]) == ("grace", "wrong sevens", "release/manual__1-1-1")


@pytest.mark.usefixtures("versions")
def test_a_rollback_to_a_version_that_is_repeated_changes_nothing(by_hand, small_house):
    aliases, log, server = Aliases(small_house.settings), small_house.settings.serving, small_house.server("tfserving")
    by_hand("promote", model=NAME, version=1)
    by_hand("promote", model=NAME, version=2)
    assert by_hand("roll back", model=NAME, version=1).stdout == f"users get {NAME} version 1 from tfserving\n"
    before = aliases.of(NAME), audit.read(log)
    assert before[0] == {"champion": 1, "previous": 2}
    done = by_hand("roll back", model=NAME, version=1)  # a lost reply, a second person, or a run that was cleared
    assert done.stdout == f"users get {NAME} version 1 from tfserving already: nothing was changed\n"
    assert (aliases.of(NAME), audit.read(log)) == before
    assert server.served(NAME).champion == 1

    server.promote(NAME, 2)  # as if it had been interrupted before the server switched
    by_hand("roll back", model=NAME, version=1)
    assert (server.served(NAME).champion, aliases.of(NAME)) == (1, before[0])


@pytest.mark.usefixtures("versions")
def test_of_two_rollbacks_at_once_to_the_same_version_one_changes_nothing(small_house):
    for number in (1, 2):
        Release(small_house.settings, NAME).promote(number, Cause("ada", "to see"))
    before = len(audit.read(small_house.settings.serving))

    def roll_back(who):
        return Release(small_house.settings, NAME).return_to(1, Cause(who, "wrong sevens"))

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(roll_back, ["ada", "grace"])) == [False, True]
    assert Aliases(small_house.settings).of(NAME) == {"champion": 1, "previous": 2}
    assert len(audit.read(small_house.settings.serving)) == before + 1


def _no_previous(by_hand, versions):
    by_hand("promote", model=NAME, version=versions[0])
    return by_hand("roll back", model=NAME, status=1)


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("action", "flags", "said"),
    [
        ("destroy", {}, "the action is 'destroy': expected one of promote, roll back, reconcile"),
        ("promote", {"model": NAME, "version": 1, "why": "  x "}, "the reason is '  x ': expected 3 characters or more"),
        ("promote", {"version": 1}, "the model is missing: promote needs one of"),
        ("promote", {"model": "cats", "version": 1}, "'cats' is not a registered model"),
        ("promote", {"model": "lenet5-native", "version": 1}, "lenet5-native"),
        ("promote", {"model": NAME}, f"the version is missing: promote needs one. The newest of {NAME} are 2, 1"),
        ("promote", {"model": NAME, "version": 99}, "99"),
        ("promote", {"model": NAME, "version": "one"}, "the version is 'one': expected a whole number, such as 2"),
        ("roll back", {"model": "lenet5-native"}, "lenet5-native"),
        ("roll back", {"model": NAME, "version": "one"}, "the version is 'one': expected a whole number, such as 2"),
        ("roll back", {"model": NAME, "version": 99}, "99"),
        ("reconcile", {"version": 2}, "the version is '2', but reconcile takes none"),
        ("reconcile", {"model": NAME}, f"the model is '{NAME}', but reconcile takes none"),
    ],
)
def test_a_wrong_input_is_an_error_in_one_line_and_changes_nothing(by_hand, small_house, action, flags, said):
    before = Aliases(small_house.settings).of(NAME), audit.read(small_house.settings.serving)
    assert said in error(by_hand(action, status=1, **flags))
    assert (Aliases(small_house.settings).of(NAME), audit.read(small_house.settings.serving)) == before


@pytest.mark.usefixtures("versions")
def test_reconcile_reports_the_servers_that_do_not_answer(by_hand, small_house):
    small_house.server("tfserving").withdraw(NAME, 2)
    done = by_hand("reconcile", status=1)  # TorchServe is down
    assert "loaded version 2, the previous" in done.stdout
    assert "torchserve" in error(done)
    assert small_house.server("tfserving").served(NAME).versions == {1, 2}


@pytest.mark.usefixtures("versions")
def test_a_rollback_to_a_version_that_is_not_the_previous_one_any_more_fails(by_hand, small_house, trained):
    aliases, log = Aliases(small_house.settings), small_house.settings.serving
    by_hand("promote", model=NAME, version=1)
    by_hand("promote", model=NAME, version=2)
    third = small_house.register(trained("tensorflow", 3)).version
    by_hand("promote", model=NAME, version=third)
    before = aliases.of(NAME), audit.read(log)
    said = error(by_hand("roll back", model=NAME, version=1, status=1))
    assert f"the previous version of {NAME} is not 1: found 2, and version {third} as the champion" in said
    assert "look again" in said
    assert (aliases.of(NAME), audit.read(log)) == before
