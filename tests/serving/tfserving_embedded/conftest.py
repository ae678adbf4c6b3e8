import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.tfserving_embedded.embedded_server import EmbeddedServer, config_text
from tests.serving.tfserving_embedded.identity_model import write_defaults, write_json_types
from tests.serving.tfserving_embedded.rest.rest_api import RestApi, rest_api
from tests.waiting import PATIENCE, wait_for
from windtunnel.settings import ROOT


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of `embedded_models`, a base path a name."""
    directory = tmp_path_factory.mktemp("models")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    program = ROOT / "tests" / "serving" / "tfserving_embedded" / "embedded_models.py"
    subprocess.run([sys.executable, program, directory], env=environment, check=True, capture_output=True, timeout=PATIENCE)
    return directory


@pytest.fixture(scope="session")
def rest_config(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model config file: `two_versions`, the first `stable`; `identity`; `defaults`; and `batch`, which is slow."""
    directory = tmp_path_factory.mktemp("rest")
    write_json_types(directory / "identity" / "1")
    write_defaults(directory / "defaults" / "1")
    policy = 'model_version_policy { all {} } version_labels { key: "stable" value: 123 }'
    entries = {
        "two_versions": f'base_path: "{models}/two_versions" {policy}',
        "identity": f'base_path: "{directory}/identity"',
        "defaults": f'base_path: "{directory}/defaults"',
        "batch": f'base_path: "{models}/batch"',
    }
    file = directory / "models.config"
    file.write_text(config_text(**entries))
    return file


@pytest.fixture(scope="session")
def api(rest_config: Path) -> Iterator[RestApi]:
    """A server that batches, as the platform starts it."""
    flags = ["--allow_version_labels_for_unavailable_models", "--enable_batching"]
    with rest_api(rest_config.parent, f"--model_config_file={rest_config}", *flags) as running:
        with running.client() as client:  # a server listens when each model has a version, which need not be all it will have
            wait_for(lambda: client.get("/v1/models/two_versions/versions/123").json()["model_version_status"][0]["state"] == "AVAILABLE")
        yield running


@pytest.fixture
def client(api: RestApi) -> Iterator[httpx.Client]:
    """A client of its REST API."""
    with api.client() as client:
        yield client


@pytest.fixture
def base(tmp_path: Path, models: Path) -> Path:
    """A base path with version 123, which adds 2; `add` adds 124, which adds 3."""
    shutil.copytree(models / "two_versions" / "123", tmp_path / "base" / "123")
    return tmp_path / "base"


@pytest.fixture(scope="session")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server of several models, which batches."""
    directory = tmp_path_factory.mktemp("server")
    paths = {name: models / name for name in ("half_plus_three", "two_signatures", "mirror", "batch", "swish", "heads")}
    paths |= {"default": models / "half_plus_two", "defaults": directory / "defaults"}
    write_defaults(paths["defaults"] / "1")
    config = directory / "models.config"
    config.write_text(config_text(**{name: f'base_path: "{path}"' for name, path in paths.items()}))
    with EmbeddedServer(directory, f"--model_config_file={config}", "--enable_batching", "--grpc_socket_path=grpc.sock") as server:
        yield server
