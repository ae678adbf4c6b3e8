"""What docker-compose.yml says twice, or says again after another file, without an engine."""

import os
import re

import pytest
import yaml

from serving.backends.tfserving.serve import TUNED, command
from tests.documents import table
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


def test_every_image_is_built_from_the_target_of_its_name():
    built = {service["image"]: service["build"]["target"] for service in SERVICES.values() if "build" in service}
    name = f"${{WINDTUNNEL_IMAGES:-windtunnel}}/%s:${{WINDTUNNEL_IMAGE_TAG:-{__version__}}}"
    assert built == {name % target: target for target in built.values()}
    assert set(built) == {service["image"] for service in SERVICES.values() if "WINDTUNNEL_IMAGES" in service["image"]}
    script = re.search(r'^images="(.*?)"', (ROOT / "scripts" / "images.sh").read_text(), re.MULTILINE)[1].split()
    assert script == sorted(built.values())
    assert set(script) < set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))


def test_the_example_of_settings_has_them_all_with_their_defaults():
    example = dict(re.findall(r"^#([A-Z_0-9]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    defaults = dict(re.findall(r"\$\{([A-Z_0-9]+):-([^}]*)\}", COMPOSE))
    inherited = set(re.findall(r"^ +((?:WINDTUNNEL|PIP|MLFLOW|AWS)_[A-Z_0-9]+):$", COMPOSE, re.MULTILINE))
    assert set(example) - {"COMPOSE_DOCKER_CLI_BUILD", "DOCKER_BUILDKIT"} == {*defaults, *inherited}
    places = {"WINDTUNNEL_DATA", "MLFLOW_ARTIFACTS_DESTINATION"}  # by default volumes, of which the example has another
    assert {name: example[name] for name in set(defaults) - places} == {name: defaults[name] for name in set(defaults) - places}


def test_defaults_that_the_settings_have_too_are_theirs():
    example = dict(re.findall(r"^#([A-Z_0-9]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    settings = Settings().variables
    common = {name: value for name, value in example.items() if name in settings} | {"WINDTUNNEL_QUEUES": "{}"}
    assert common == {name: settings[name] for name in common}
    assert len(common) > 10


def test_what_is_published_on_loopback_is_what_the_table_says():
    """TorchServe's management and `models_api`, for instance, are not."""
    form = r"\$\{WINDTUNNEL_BIND:-127\.0\.0\.1\}:\$\{(\w+):-(\d+)\}:(\$\{\1:-\2\}|\2)"
    rows = table("SECURITY.md", "## Where the platform listens")
    said = {(row["setting of the port"].strip("`"), row["port"]) for row in rows if row["on the host"] == "published"}
    published = [re.fullmatch(form, port) for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(published)
    assert {(port[1], port[2]) for port in published} == said
    defaults = {name: str(value) for name, value in Settings().variables.items()}
    ours = {row["setting of the port"].strip("`"): row["port"] for row in rows if row["as a process, on"] != "no"}
    assert ours == {name: port for name, port in defaults.items() if name.endswith("_PORT")}


def test_a_server_is_in_the_networks_that_the_table_says():
    said = {}
    for row in table("SECURITY.md", "## Where the platform listens"):
        service, *networks = re.findall(r"`([^`]+)`", row["as a service, over"])
        assert said.setdefault(service, networks) == networks
    assert said == {name: SERVICES[name]["networks"] for name in said}
    assert {name for name, service in SERVICES.items() if "ports" in service} <= set(said)


def test_only_the_proxy_has_the_engine_and_only_the_worker_has_the_proxy():
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


def test_the_key_that_signs_versions_is_for_airflow_and_the_command_line():
    """The volume `secrets` holds it. Whoever only verifies has a volume with the public key alone."""
    volumes = {name: [volume.partition(":")[0] for volume in service.get("volumes", [])] for name, service in SERVICES.items()}
    assert {name for name, mounted in volumes.items() if "secrets" in mounted and not name.startswith("airflow-")} == {
        *("secrets", "flower", "windtunnel"),
    }
    assert {name for name, mounted in volumes.items() if "release-secrets" in mounted} == {"secrets", "reconcile", "torchserve"}
    mounts = {volume for name in ("reconcile", "torchserve") for volume in SERVICES[name]["volumes"] if "secrets" in volume}
    assert mounts == {"release-secrets:/var/lib/windtunnel/secrets:ro"}


def test_tensorflow_serving_has_the_flags_that_were_measured():
    settings = Settings(home="/var/lib/windtunnel")
    ours = [flag for flag in command(settings, TUNED) if flag.startswith("--") and not flag.startswith(("--host", "--wait_for_models"))]
    assert [re.sub(r"\$\{[A-Z_]+:-(.*)\}", r"\1", flag) for flag in SERVICES["tfserving"]["command"]] == ours


def test_the_service_of_the_models_page_can_write_nothing_and_is_reached_by_airflow_alone():
    service = SERVICES["models-api"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert service["read_only"]
    assert "ports" not in service  # it has no login
    assert set(service["networks"]) & set(SERVICES["airflow-apiserver"]["networks"]) == {"control"}
    assert "tasks" not in SERVICES["airflow-apiserver"]["networks"]  # the page does not open the model servers to Airflow
    assert service["environment"]["WINDTUNNEL_MODELS_API_HOST"] == "models-api"
