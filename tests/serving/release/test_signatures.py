"""What somebody can try who may write to MLflow, to its artefacts and to the volume of versions: nothing of it is ever published."""

import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from serving.release import golden
from serving.release.release import Cause, Release, local_copy, reconcile_all
from tests.serving.conftest import LINEAGE
from tests.serving.release.bad_versions import replaced, variant
from windtunnel.aliases import Aliases
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_json
from windtunnel.manifest import MANIFEST, REGISTRATION, SIGNATURE
from windtunnel.platform.secrets import make_signing_key, public_key, signing_key
from windtunnel.run import Run
from windtunnel.settings import ROOT, Settings, run_directory
from windtunnel.signatures import Registration, fingerprint, sign

pytestmark = pytest.mark.minutes(2)
NAME = "lenet5-tensorflow"
CAUSE = Cause("a test", "to see")
BROKEN = rf"{NAME} version {{0}} is not what was signed: changed, added or missing: .*\b{{1}}"


@pytest.fixture(scope="module")
def release(small_house, trained):
    """The releases of a model whose version 1 is signed, and the champion."""
    made = Release(small_house.settings, NAME)
    made.promote(small_house.register(trained("tensorflow")).version, CAUSE)
    return made


@pytest.fixture
def right(release, trained):
    """Whether users get the right answers."""
    tensors = load_file(trained("tensorflow") / "golden.safetensors")
    return lambda: np.allclose(release.server.predict(NAME, tensors["image"])["logits"], tensors["logits"], rtol=1e-5, atol=1e-5)


@pytest.fixture
def refused(release, small_house, right):
    """Tries to release a version in every way; each has to fail, and to change nothing."""

    def check(number, says):
        before = Aliases(small_house.settings).of(NAME), release.server.served(NAME), release.server.published(NAME)
        for step in (release.fetch, release.publish, release.verify, lambda number: release.promote(number, CAUSE)):
            with pytest.raises(WindtunnelError, match=says):
                step(number)
        assert (Aliases(small_house.settings).of(NAME), release.server.served(NAME), release.server.published(NAME)) == before
        assert not local_copy(small_house.settings, NAME, number).exists()
        assert right()

    return check


@pytest.fixture
def stored(small_house):
    """The folder of a version in MLflow's store of artefacts."""
    return lambda known: small_house.settings.home / "mlruns" / known.source.partition(":/")[2]


@pytest.fixture
def windtunnel(small_house):
    """Runs the command line, and wants an exit status."""

    def run(*arguments, status=0):
        command = [sys.executable, "-c", "from windtunnel.cli.app import main; main()", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=small_house.environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


def rewrite(house, known, directory):
    """Write a manifest that agrees with the stored files, and note its digest in the registry."""
    manifest = json.loads((directory / MANIFEST).read_text())
    write_json(directory / MANIFEST, manifest | {"files": {name: sha256(directory / name) for name in manifest["files"]}})
    house.mlflow.set_model_version_tag(NAME, str(known.version), "manifest_sha256", sha256(directory / MANIFEST))


def test_a_forged_run_is_refused_though_its_manifest_is_consistent(small_house, trained, refused, tmp_path):
    forged = small_house.register(variant(trained("tensorflow", 2), tmp_path / "forged"), signed=False)
    refused(forged.version, rf"{NAME} version {forged.version} is not signed: .*`windtunnel sign {NAME}@{forged.version}`")


def test_a_forged_run_with_the_signature_of_another_version_is_refused(small_house, trained, stored, refused, tmp_path):
    honest = Aliases(small_house.settings).version(NAME, 1)
    forged = variant(trained("tensorflow", 2), tmp_path / "forged")
    for name in (REGISTRATION, SIGNATURE):
        shutil.copy(stored(honest) / name, forged)
    number = small_house.register(forged, signed=False).version
    refused(number, BROKEN.format(number, "golden.safetensors"))


def test_a_byte_that_was_changed_in_any_file_is_named(small_house, trained, stored, release, tmp_path):
    known = small_house.register(variant(trained("tensorflow"), tmp_path / "another"))
    folder = stored(known)
    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    assert {MANIFEST, REGISTRATION, SIGNATURE, "golden.safetensors", "saved_model/model.tflite"} < set(files)
    for name in files:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
        says = {REGISTRATION: "is not what was signed: .*registration.json", SIGNATURE: "signed with another key: found none"}
        with pytest.raises(WindtunnelError, match=says.get(name, rf"{name}.* has SHA-256 ")):
            release.publish(known.version)
        (folder / name).write_bytes(whole)
    assert known.version not in release.server.published(NAME)
    release.publish(known.version)
    assert known.version in release.server.served(NAME).versions


@pytest.mark.parametrize("name", ["golden.safetensors", "saved_model/model.tflite"])
def test_a_swapped_file_is_named_though_manifest_and_registry_agree(small_house, trained, stored, refused, tmp_path, name):
    known = small_house.register(variant(trained("tensorflow"), tmp_path / "another"))
    replaced(name, trained("tensorflow", 2))(stored(known))
    rewrite(small_house, known, stored(known))
    refused(known.version, BROKEN.format(known.version, name))


def test_an_older_version_under_a_newer_number_is_refused_and_cannot_be_signed_as_that(small_house, refused, windtunnel):
    tags = small_house.mlflow.get_model_version(NAME, "1").tags
    old = Aliases(small_house.settings).version(NAME, 1)
    number = int(small_house.mlflow.create_model_version(NAME, old.source, run_id=old.mlflow_run, tags=tags).version)
    refused(number, rf"{NAME} version {number} is another version, which was signed as {NAME} version 1")
    done = windtunnel("sign", f"{NAME}@{number}", "--yes", status=1)
    assert f"{NAME} version {number} has the files of {NAME} version 1, which are signed as that" in done.stderr


def test_an_edited_registration_is_refused(small_house, stored, refused, trained, tmp_path):
    known = small_house.register(variant(trained("tensorflow"), tmp_path / "another"))
    registration = json.loads((stored(known) / REGISTRATION).read_text())
    write_json(stored(known) / REGISTRATION, registration | {"dag_run": "lenet5/another"})
    refused(known.version, BROKEN.format(known.version, r"registration\.json"))


def test_a_removed_signature_is_refused(small_house, stored, refused, trained, tmp_path):
    known = small_house.register(variant(trained("tensorflow"), tmp_path / "another"))
    (stored(known) / SIGNATURE).unlink()
    refused(known.version, rf"{NAME} version {known.version} is not signed: model\.sig is missing")


def test_a_foreign_key_is_refused_with_both_fingerprints(small_house, trained, refused, tmp_path):
    forged = variant(trained("tensorflow", 2), tmp_path / "forged")
    known = small_house.register(forged, signed=False)
    theirs = Settings(home=tmp_path / "theirs")
    make_signing_key(theirs)
    sign(forged, Registration(name=NAME, version=known.version, manifest_sha256=known.manifest_sha256, dag_run="a/b"), signing_key(theirs))
    Aliases(small_house.settings).attach(known, forged / REGISTRATION, forged / SIGNATURE)
    both = f"found {fingerprint(public_key(theirs))}, expected {fingerprint(public_key(small_house.settings))}"
    refused(known.version, f"{NAME} version {known.version} was signed with another key: {both}")


def test_a_swapped_key_beside_the_versions_is_a_warning_that_names_both_and_is_not_used(
    small_house, trained, refused, tmp_path, release, capsys
):
    copy = small_house.settings.serving / "versions" / "signing-key.pub"
    own = copy.read_bytes()
    theirs = Settings(home=tmp_path / "theirs")
    copy.write_bytes(make_signing_key(theirs))
    try:
        release.promote(1, CAUSE)
        both = f"has SHA-256 {fingerprint(public_key(theirs))}, but .*{fingerprint(public_key(small_house.settings))}"
        assert re.search(f"^warning: .*{both}", capsys.readouterr().err)
        test_a_foreign_key_is_refused_with_both_fingerprints(small_house, trained, refused, tmp_path / "signed")
    finally:
        copy.write_bytes(own)
    capsys.readouterr()
    release.promote(1, CAUSE)
    assert capsys.readouterr().err == ""


def test_a_changed_copy_beside_the_servers_is_fetched_again(small_house, release, trained):
    copy = release.fetch(1).directory
    replaced("golden.safetensors", trained("tensorflow", 2))(copy)
    manifest = json.loads((copy / MANIFEST).read_text())
    write_json(copy / MANIFEST, manifest | {"files": {name: sha256(copy / name) for name in manifest["files"]}})
    release.fetch(1)
    assert sha256(copy / "golden.safetensors") == sha256(trained("tensorflow") / "golden.safetensors")


def test_reconcile_leaves_users_their_champion_if_an_alias_names_a_forged_version(small_house, trained, release, right, tmp_path):
    forged = small_house.register(variant(trained("tensorflow", 2), tmp_path / "forged"), signed=False).version
    aliases = Aliases(small_house.settings)
    before = aliases.of(NAME)
    aliases.move(NAME, "champion", forged)
    try:
        (problem,) = [line for line in reconcile_all(small_house.settings)[1] if NAME in line]
        assert problem.startswith(f"not loaded on tfserving: {NAME} version {forged} is not signed")
        assert release.server.served(NAME).champion == before["champion"]
        assert forged not in release.server.published(NAME)
        assert right()
    finally:
        aliases.move(NAME, "champion", before["champion"])
    assert reconcile_all(small_house.settings)[0] == []


@pytest.mark.parametrize("name", [MANIFEST, "golden.safetensors"])
def test_reconcile_ends_with_what_a_person_has_to_do_if_a_file_of_the_champion_was_lost(
    small_house, trained, stored, release, right, tmp_path, name
):
    known = small_house.register(variant(trained("tensorflow", 2), tmp_path / "another"))
    (stored(known) / name).unlink()
    aliases = Aliases(small_house.settings)
    before = aliases.of(NAME)
    aliases.move(NAME, "champion", known.version)
    try:
        (problem,) = [line for line in reconcile_all(small_house.settings)[1] if NAME in line]
        assert problem.startswith("not loaded on tfserving: ")
        assert name in problem
        assert release.server.served(NAME).champion == before["champion"]
        assert right()
        program = [sys.executable, "-m", "serving.release.reconcile", "tfserving"]
        once = subprocess.run(program, cwd=ROOT, env=small_house.environment, capture_output=True, text=True)
        assert (once.returncode, once.stderr.endswith("Then call `windtunnel reconcile`\n")) == (1, True), once.stderr
    finally:
        aliases.move(NAME, "champion", before["champion"])


@pytest.fixture
def unsigned(small_house, release, stored):
    """The champion as after an upgrade from a release without signatures."""
    release.promote(1, CAUSE)
    for folder in (stored(Aliases(small_house.settings).version(NAME, 1)), local_copy(small_house.settings, NAME, 1)):
        for name in (REGISTRATION, SIGNATURE):
            (folder / name).unlink()
    yield
    Release(small_house.settings, NAME).promote(1, CAUSE)


def test_an_unsigned_champion_that_is_loaded_goes_on_answering_and_is_signed_by_hand(small_house, unsigned, release, right, windtunnel):
    assert [line for line in reconcile_all(small_house.settings)[0] if NAME in line] == []
    assert right()

    for number in release.server.published(NAME) - {1}:
        release.server.withdraw(NAME, number)
    release.server.withdraw(NAME, 1)  # as a server that lost its memory
    (problem,) = [line for line in reconcile_all(small_house.settings)[1] if NAME in line]
    assert problem.startswith(f"not loaded on tfserving: {NAME} version 1 is not signed: model.sig is missing")
    assert problem.endswith(f"`windtunnel sign {NAME}@1`")
    program = [sys.executable, "-m", "serving.release.reconcile", "tfserving"]
    once = subprocess.run(program, cwd=ROOT, env=small_house.environment, capture_output=True, text=True)
    assert once.returncode == 1
    assert once.stderr.endswith("Then call `windtunnel reconcile`\n")

    asked = windtunnel("sign", f"{NAME}@1", status=1)
    known = Aliases(small_house.settings).version(NAME, 1)
    assert asked.stderr.splitlines() == [
        f"{NAME} version 1, {known.measured}, created {known.created:%Y-%m-%d %H:%M} UTC",
        "aliases       champion",
        f"DAG run       {known.dag_run}",
        f"MLflow run    {known.mlflow_run}",
        f"manifest      SHA-256 {known.manifest_sha256}",
        "error: there is no terminal to ask on whether to sign it: look at it, then add --yes",
    ]
    done = windtunnel("sign", f"{NAME}@1", "--yes")
    assert done.stdout.startswith(f"Signed: {NAME} version 1, accuracy ")
    assert "It is champion: `windtunnel reconcile` loads it where it is missing." in done.stdout
    assert f"{NAME} on tfserving: users get version 1" in reconcile_all(small_house.settings)[0]
    assert right()


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "lost"])
def test_a_failed_promotion_gives_users_back_an_unsigned_champion_if_it_is_loaded(
    small_house, unsigned, release, right, trained, tmp_path, monkeypatch, loaded
):
    other = small_house.register(variant(trained("tensorflow", 2), tmp_path / "other")).version
    if not loaded:
        release.server.withdraw(NAME, 1)  # as a server that lost its memory
    check = golden.verify

    def turn(server, version, addressed=True, **options):
        if not addressed:
            raise WindtunnelError("it turned")
        check(server, version, **options)

    monkeypatch.setattr(golden, "verify", turn)
    with pytest.raises(WindtunnelError, match="it turned"):
        release.promote(other, CAUSE)
    monkeypatch.undo()
    assert release.server.served(NAME).champion == (1 if loaded else None)
    assert not loaded or right()
    assert json.loads(run_sign(small_house.environment, f"{NAME}@1"))["version"] == 1


def run_sign(environment, reference):
    command = [sys.executable, "-c", "from windtunnel.cli.app import main; main()", "sign", reference, "--yes", "--json"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


TASK = """
import os, signal, sys
from types import SimpleNamespace
from dags.signing import signed
from windtunnel.aliases import Aliases

sent, ask = 0, Aliases._request

def cut_off(self, method, path, **arguments):
    global sent
    sent += method == "PUT"
    if sent == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return ask(self, method, path, **arguments)

Aliases._request = cut_off
task = SimpleNamespace(command=["--framework", "tensorflow"])
signed({"dag": SimpleNamespace(dag_id="lenet5"), "run_id": "manual__1", "task": task}, None)
"""
"""What Airflow does after a training task, killed instead of sending its n-th file."""


def test_a_task_that_was_killed_before_its_version_was_signed_ends_right_at_the_next_try(small_house, trained, release, refused, tmp_path):
    run = Run(run_directory(small_house.settings.home, "lenet5", "manual__1"))
    variant(trained("tensorflow"), run.version("tensorflow"))
    write_json(run.lineage_file, LINEAGE.model_dump(mode="json"))
    known = small_house.register(run.version("tensorflow"), signed=False)
    write_json(run.registered("tensorflow"), {"name": known.name, "version": known.version})

    def sign_after(number):
        command = [sys.executable, "-c", TASK, str(number)]
        return subprocess.run(command, cwd=ROOT, env=small_house.environment, capture_output=True, text=True)

    for number in (1, 2):
        assert sign_after(number).returncode == -signal.SIGKILL
        refused(known.version, rf"{NAME} version {known.version} is not signed")
    for _ in range(2):
        done = sign_after(3)
        assert (done.returncode, done.stdout) == (0, f"signed: {NAME} version {known.version}\n"), done.stderr
        release.publish(known.version)
    assert release.server.served(NAME).versions >= {1, known.version}
    registration = json.loads((release.fetch(known.version).directory / REGISTRATION).read_text())
    assert registration == {
        **{"name": NAME, "version": known.version, "dag_run": "lenet5/manual__1"},
        "manifest_sha256": known.manifest_sha256,
    }


def test_another_version_than_the_registered_one_is_not_signed(small_house, trained, tmp_path):
    run = Run(run_directory(small_house.settings.home, "lenet5", "manual__1"))
    shutil.rmtree(run.directory, ignore_errors=True)
    variant(trained("tensorflow"), run.version("tensorflow"))
    write_json(run.lineage_file, LINEAGE.model_dump(mode="json"))
    write_json(run.registered("tensorflow"), {"name": NAME, "version": 1})
    done = subprocess.run([sys.executable, "-c", TASK, "3"], cwd=ROOT, env=small_house.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"but {NAME} version 1 was registered with" in done.stderr


def test_a_link_to_a_secret_is_not_read_and_not_signed(small_house, trained):
    run = Run(run_directory(small_house.settings.home, "lenet5", "manual__1"))
    shutil.rmtree(run.directory, ignore_errors=True)
    variant(trained("tensorflow"), run.version("tensorflow"))
    write_json(run.registered("tensorflow"), {"name": NAME, "version": 1})
    (run.version("tensorflow") / REGISTRATION).symlink_to(signing_key(small_house.settings))
    done = subprocess.run([sys.executable, "-c", TASK, "3"], cwd=ROOT, env=small_house.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{REGISTRATION} is a link, which no trainer makes: it is not signed" in done.stderr
    assert "PRIVATE KEY" not in done.stdout + done.stderr


def test_verify_says_what_it_checked_of_a_version_in_the_registry(small_house, release, windtunnel, stored):
    done = windtunnel("verify", f"{NAME}@1")
    key = fingerprint(public_key(small_house.settings))
    assert done.stdout.startswith(f"{NAME} version 1 is whole and signed.\nfiles ")
    assert f"key           SHA-256 {key}\nregistration  {NAME} version 1, from lenet5/test\n" in done.stdout
    known = Aliases(small_house.settings).version(NAME, 1)
    manifest = json.loads((stored(known) / MANIFEST).read_text())
    assert json.loads(windtunnel("verify", f"{NAME}@champion", "--json").stdout) == {
        **{"name": NAME, "version": 1, "manifest_sha256": known.manifest_sha256, "dag_run": "lenet5/test"},
        **{"files": len(manifest["files"]), "key": key},
    }
    whole = (stored(known) / REGISTRATION).read_bytes()
    (stored(known) / REGISTRATION).write_bytes(whole.replace(b"test", b"best"))
    done = windtunnel("verify", f"{NAME}@1", status=1)
    assert done.stderr.startswith(f"error: {NAME} version 1 is not what was signed: changed, added or missing: registration.json. ")
    (stored(known) / REGISTRATION).write_bytes(whole)
