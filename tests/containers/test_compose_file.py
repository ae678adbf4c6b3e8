"""What docker-compose.yml and the Dockerfiles say twice, or say again after another file, without an engine."""

import os
import re

import pytest
import yaml

from serving.tfserving.serve import TUNED, command
from windtunnel import __version__
from windtunnel.settings import ROOT, Settings

COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
GIBIBYTE = 2**30


@pytest.fixture(autouse=True)
def no_settings_of_whoever_tests(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WINDTUNNEL_")]:
        monkeypatch.delenv(name)


def size(text):
    return int(text[:-1]) * 2 ** {"m": 20, "g": 30}[text[-1]]


def test_images_are_those_of_this_version():
    assert set(re.findall(r"\$\{WINDTUNNEL_IMAGE_TAG:-([^}]*)\}", COMPOSE)) == {__version__}


def test_images_share_their_first_stages():
    """A Dockerfile cannot include another: equal text is what makes the engine build these stages once."""
    files = [ROOT / folder / "Dockerfile" for folder in ("dags", "serving", "serving/torchserve", "train_server", "windtunnel")]
    stages = {file.read_text().partition("\nFROM ${BASE_IMAGE}")[2].partition("\nFROM base AS requirements")[0] for file in files}
    assert len(stages) == 1
    assert stages != {""}


def test_the_example_of_settings_has_them_all_with_their_defaults():
    example = dict(re.findall(r"^#([A-Z_0-9]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    defaults = dict(re.findall(r"\$\{([A-Z_0-9]+):-([^}]*)\}", COMPOSE))
    inherited = set(re.findall(r"^ +((?:WINDTUNNEL|PIP|MLFLOW|AWS)_[A-Z_0-9]+):$", COMPOSE, re.MULTILINE))
    assert set(example) - {"COMPOSE_DOCKER_CLI_BUILD", "DOCKER_BUILDKIT"} == {*defaults, *inherited}
    places = {"WINDTUNNEL_DATA", "MLFLOW_ARTIFACTS_DESTINATION"}  # by default volumes, of which the example has another
    assert {name: example[name] for name in set(defaults) - places} == {name: defaults[name] for name in set(defaults) - places}


def test_defaults_that_the_settings_have_too_are_theirs():
    example = dict(re.findall(r"^#WINDTUNNEL_([A-Z_0-9]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    settings = {name: str(value) for name, value in Settings()}
    common = {name.lower(): value for name, value in example.items() if name.lower() in settings} | {"queues": "{}"}
    assert common == {name: settings[name] for name in common}
    assert len(common) > 10


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_nothing_listens_beyond_this_machine_by_default(name):
    assert all(port.startswith("${WINDTUNNEL_BIND:-127.0.0.1}:") for port in SERVICES[name].get("ports", []))


def test_only_the_filter_has_the_engine_and_only_the_worker_has_the_filter():
    assert [name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))] == ["docker-proxy"]
    assert sorted(name for name, service in SERVICES.items() if "engine" in service.get("networks", [])) == [
        "airflow-worker",
        "docker-proxy",
    ]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_is_without_rights_and_within_limits(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert size(service["mem_limit"]) <= 1.5 * GIBIBYTE


def test_what_runs_all_the_time_leaves_two_of_eight_gibibytes_to_a_task():
    always = [service for service in SERVICES.values() if service["restart"] != "no" and "profiles" not in service]
    assert sum(size(service["mem_limit"]) for service in always) <= 6 * GIBIBYTE


def test_tensorflow_serving_has_the_flags_that_were_measured():
    settings = Settings(home="/var/lib/windtunnel")
    ours = [flag for flag in command(settings, TUNED) if flag.startswith("--") and not flag.startswith(("--host", "--wait_for_models"))]
    assert [re.sub(r"\$\{[A-Z_]+:-(.*)\}", r"\1", flag) for flag in SERVICES["tfserving"]["command"]] == ours
