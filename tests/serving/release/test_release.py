"""Releases on the real servers, with a real registry. Every test leaves a champion that answers."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from serving.release import audit, golden
from serving.release.release import Cause, Release, reconcile_all
from tests.serving import torch_models
from tests.serving.release.bad_versions import replaced, variant
from windtunnel.aliases import Aliases
from windtunnel.errors import WindtunnelError
from windtunnel.registry import fetch, list_versions

ROLLBACK = """
import atexit, sys
heavy = {"torch", "tensorflow", "airflow", "pandas", "sklearn"}
atexit.register(lambda: print("imported:", sorted(heavy & set(sys.modules)), file=sys.stderr))
from windtunnel.cli.app import main
main()
"""
CAUSE = Cause("a test", "to see", "lenet5/manual__1")


@pytest.fixture(scope="module", params=["libtorch", "tensorflow"])
def release(request, house, trained):
    """The releases of a model with two registered versions, 1 and 2."""
    for seed in (1, 2):
        house.register(trained(request.param, seed))
    return Release(house.settings, f"lenet5-{request.param}")


@pytest.fixture
def state(release, house):
    """The aliases, and what the server serves."""
    return lambda: (Aliases(house.settings).of(release.name), release.server.served(release.name))


def answer(release, number=None):
    """Which registered version gives the answer that users get, told by its logits."""
    golden = {known: load_file(release.fetch(known).directory / "golden.safetensors") for known in (1, 2)}
    found = release.server.predict(release.name, golden[1]["image"][:1], number)["logits"]
    right = [known for known, tensors in golden.items() if np.allclose(found, predicted(tensors), rtol=1e-4, atol=1e-4)]
    assert len(right) == 1
    return right[0]


def predicted(tensors):
    return tensors["logits"][:1]


def test_a_release_step_by_step(release, state):
    release.publish(1)
    assert state()[0] == {}
    assert state()[1].versions == {1}
    assert state()[1].champion is None
    with pytest.raises(WindtunnelError):  # nobody's request reaches what has not been promoted
        answer(release)
    release.verify(1)
    assert state()[0] == {"challenger": 1}
    release.promote(1, CAUSE)
    assert state()[0] == {"champion": 1}
    assert (state()[1].versions, state()[1].champion, answer(release)) == ({1}, 1, 1)

    release.publish(2)
    assert (answer(release), answer(release, 2)) == (1, 2)
    release.verify(2)
    assert answer(release) == 1
    release.promote(2, CAUSE)
    assert state()[0] == {"champion": 2, "previous": 1}
    assert (state()[1].versions, state()[1].champion, answer(release)) == ({1, 2}, 2, 2)


def test_every_step_can_be_repeated(release, state, house):
    release.promote(1, CAUSE)
    release.promote(2, CAUSE)
    before, lines = state(), audit.read(house.settings.serving)
    for step in (release.publish, release.verify, lambda number: release.promote(number, CAUSE)):
        step(2)
        assert state() == before
    assert audit.read(house.settings.serving) == lines


def test_a_rollback_loads_nothing_and_can_be_taken_back(release, state, house):
    """Neither does a server load a version nor the command a framework: what takes no second."""
    release.promote(1, CAUSE)
    release.promote(2, CAUSE)
    for expected in (1, 2, 1):
        done = subprocess.run(
            [sys.executable, "-c", ROLLBACK, "rollback", release.name, "--why", "it is a test", "--json"],
            env=house.environment,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "imported: []\n")
        assert json.loads(done.stdout)["version"] == expected
        assert answer(release) == expected
        assert state()[1].versions == {1, 2}
    assert state()[0] == {"champion": 1, "previous": 2}
    line = audit.read(house.settings.serving)[-1]
    assert (line["action"], line["model"], line["from_version"], line["to_version"]) == ("roll back", release.name, 2, 1)
    assert line["why"] == "it is a test"
    assert line["who"]


def test_the_registry_says_the_same_of_a_version_over_rest(release, house):
    release.promote(2, CAUSE)
    known = {version.version: version for version in list_versions(house.mlflow, release.name)}
    assert "champion" in known[2].aliases
    aliases = Aliases(house.settings)
    assert {number: aliases.version(release.name, number) for number in known} == known
    with pytest.raises(WindtunnelError, match=r"\b99\b.*`windtunnel models` lists all versions"):
        aliases.version(release.name, 99)


def test_what_a_rollback_needs_is_said(house, trained):
    house.register(trained("pytorch"))
    release = Release(house.settings, "lenet5-pytorch")
    with pytest.raises(WindtunnelError, match=r"lenet5-pytorch has no previous version\. Choose one with `windtunnel deploy"):
        release.rollback(CAUSE)
    with pytest.raises(WindtunnelError, match="no version 99 of 'lenet5-pytorch' in the registry"):
        release.promote(99, CAUSE)
    with pytest.raises(WindtunnelError, match="'cats' is not a registered model"):
        Release(house.settings, "cats")


def test_reconcile_mends_what_was_changed_behind_its_back(release, state, house):
    release.promote(1, CAUSE)
    release.promote(2, CAUSE)
    reconcile_all(house.settings)
    assert reconcile_all(house.settings) == ([], [])
    release.server.promote(release.name, 1)
    release.server.withdraw(release.name, 2)
    changes, problems = reconcile_all(house.settings)
    assert problems == []
    where = f"{release.name} on {release.server.name}"
    assert changes == [f"{where}: loaded version 2, the champion", f"{where}: users get version 2"]
    assert (state()[1].versions, state()[1].champion, answer(release)) == ({1, 2}, 2, 2)


def test_a_champion_that_answers_wrong_makes_way_for_the_previous_one(release, state, house, trained, tmp_path):
    release.promote(1, CAUSE)
    bad = house.register(
        variant(trained(release.name.removeprefix("lenet5-"), 2), tmp_path / "bad", other_golden(trained, release))
    ).version
    aliases = Aliases(house.settings)
    aliases.move(release.name, "previous", 1)
    aliases.move(release.name, "champion", bad)  # as nobody should
    changes, problems = reconcile_all(house.settings)
    assert problems == []
    assert any(f"version {bad}, the champion, was rejected: {release.name} version {bad} on" in change for change in changes)
    assert (state()[0]["champion"], state()[1].champion, answer(release)) == (1, 1, 1)
    assert bad not in release.server.published(release.name)
    assert audit.read(house.settings.serving)[-1]["action"] == "roll back"


def test_a_champion_that_answers_late_stays(release, state, house, monkeypatch):
    release.promote(1, CAUSE)
    release.server.withdraw(release.name, 1)  # behind its back
    monkeypatch.setattr(golden, "LATE_SECONDS", -1.0)  # of a machine that has no time for it
    with pytest.raises(WindtunnelError, match=r"took .* in 3 tries, expected at most -1 s"):
        release.promote(2, CAUSE)
    changes, problems = reconcile_all(house.settings)
    assert problems == []
    assert f"{release.name} on {release.server.name}: users get version 1" in changes
    assert (state()[0]["champion"], state()[1].champion, answer(release)) == (1, 1, 1)


def other_golden(trained, release):
    """Spoils a version with another one's answers."""
    return replaced("golden.safetensors", trained(release.name.removeprefix("lenet5-"), 1))


def test_models_of_other_kinds_in_the_registry_are_left_alone(house):
    if "cats" not in Aliases(house.settings).all():
        house.mlflow.create_registered_model("cats")
    assert reconcile_all(house.settings)[1] == []
    command = [sys.executable, "-c", "from windtunnel.cli.app import main; main()", "models"]
    assert subprocess.run(command, env=house.environment, capture_output=True, text=True).returncode == 0


def test_reconcile_withdraws_what_no_alias_names(release, state, house):
    release.promote(1, CAUSE)
    aliases = Aliases(house.settings)
    aliases.move(release.name, "previous", None)
    aliases.move(release.name, "challenger", None)
    release.publish(2)
    assert state()[1].versions == {1, 2}
    assert reconcile_all(house.settings)[0] == [f"{release.name} on {release.server.name}: withdrew version 2"]
    assert (state()[1].versions, answer(release)) == ({1}, 1)


def test_a_server_that_was_killed_comes_back_with_its_champion(release, state, house):
    release.promote(1, CAUSE)
    release.promote(2, CAUSE)
    house.kill(release.server.name)
    with pytest.raises(WindtunnelError, match=release.server.name):
        release.rollback(CAUSE)
    house.start(release.server.name)
    assert reconcile_all(house.settings)[1] == []
    champion = state()[0]["champion"]
    assert (state()[1].versions, state()[1].champion, answer(release)) == (set(state()[0].values()), champion, champion)


def test_a_version_that_turns_wrong_once_users_get_it_is_taken_back_by_itself(house, trained, tmp_path):
    release = Release(house.settings, "lenet5-libtorch")
    release.promote(house.register(trained("libtorch")).version, CAUSE)
    before = Aliases(house.settings).of(release.name)

    def turn(bad):  # four calls to warm it, four when it becomes the challenger, four before it is promoted, and then four more
        torch.jit.script(torch_models.turns(torch.jit.load(bad / "model.pt"), calls=14)).save(str(bad / "model.pt"))

    version = house.register(variant(trained("libtorch"), tmp_path / "turning", turn)).version
    release.verify(version)
    with pytest.raises(WindtunnelError, match=rf"version {version} on torchserve, asked over \w+ as users ask, answers logits "):
        release.promote(version, CAUSE)
    golden = load_file(trained("libtorch") / "golden.safetensors")
    np.testing.assert_allclose(release.server.predict(release.name, golden["image"])["logits"], golden["logits"], rtol=1e-5, atol=1e-5)
    assert release.server.served(release.name).champion == before["champion"]
    assert Aliases(house.settings).of(release.name) == before
    assert version not in release.server.published(release.name)
    line = audit.read(house.settings.serving)[-1]
    assert (line["action"], line["from_version"], line["to_version"]) == ("roll back", version, before["champion"])


def test_a_changed_file_in_the_registry_is_never_served(release, state, house, trained, tmp_path):
    release.promote(1, CAUSE)
    directory = variant(trained(release.name.removeprefix("lenet5-")), tmp_path / "other")
    known = house.register(directory)
    file = directory / "golden.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    house.mlflow.log_artifact(known.mlflow_run, str(file), "version")
    with pytest.raises(WindtunnelError, match=r"golden\.safetensors has SHA-256"):
        release.promote(known.version, CAUSE)
    with pytest.raises(WindtunnelError, match=r"golden\.safetensors has SHA-256"):
        fetch(house.mlflow, known, tmp_path / "fetched")
    assert (state()[0]["champion"], state()[1].champion, answer(release)) == (1, 1, 1)


@pytest.fixture
def cut_off(release, house):
    """Promotes version 2 in a process that is killed after so many steps; its status and the steps that it took."""
    command = [sys.executable, str(Path(__file__).with_name("cut_off.py")), release.name, "2"]
    with subprocess.Popen(command, env=house.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:

        def promote(step):
            print(step, file=program.stdin, flush=True)
            return json.loads(program.stdout.readline())

        yield promote
        program.stdin.close()


def test_a_release_killed_at_any_step_is_mended_by_reconcile(release, state, house, cut_off):
    aliases = Aliases(house.settings)
    step, status = 0, None
    while status != 0:
        release.promote(1, CAUSE)
        for alias in ("previous", "challenger"):
            aliases.move(release.name, alias, None)
        reconcile_all(house.settings)
        assert (state()[0], state()[1].versions) == ({"champion": 1}, {1})

        step += 1
        status, steps = cut_off(step).values()
        assert status in (0, -signal.SIGKILL)

        assert reconcile_all(house.settings)[1] == []
        wanted, served = state()
        assert served.versions == set(wanted.values()) == release.server.published(release.name), steps
        assert wanted["champion"] == served.champion == answer(release), steps
        assert not list(house.settings.serving.rglob("*.partial")), steps
    assert step > 10
    assert wanted == {"champion": 2, "previous": 1}
