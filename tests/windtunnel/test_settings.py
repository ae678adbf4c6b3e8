from pathlib import Path

import pytest

from serving.backends.tfserving.declaration import TFServingSettings
from serving.backends.torchserve.declaration import TorchServeSettings
from serving.speech_server.declaration import SpeechSettings
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT, Settings, defaults, load_settings, run_directory


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    """The defaults, whatever the settings of whoever runs the tests."""
    import os

    for name in os.environ:
        if name.startswith("WINDTUNNEL_"):
            monkeypatch.delenv(name)


def test_defaults_lie_in_the_project_and_listen_on_loopback():
    settings = load_settings()
    assert settings.home == ROOT / ".windtunnel"
    assert settings.dags == ROOT / "dags"
    assert settings.airflow_url == "http://127.0.0.1:8080"
    assert settings.mlflow_url == "http://127.0.0.1:5000"
    assert settings.tensorboard_url == "http://127.0.0.1:6006"
    assert settings.schedule == "@monthly"


def test_a_variable_changes_a_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("WINDTUNNEL_AIRFLOW_PORT", "18080")
    monkeypatch.setenv("WINDTUNNEL_HOME", "state")
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.airflow_url == "http://127.0.0.1:18080"
    assert settings.runs == tmp_path / "state" / "runs"


@pytest.mark.parametrize(("given", "schedule"), [("none", None), ("", None), ("@weekly", "@weekly"), ("0 4 * * 1", "0 4 * * 1")])
def test_the_schedule_may_be_none(monkeypatch, given, schedule):
    monkeypatch.setenv("WINDTUNNEL_SCHEDULE", given)
    assert load_settings().schedule == schedule


@pytest.mark.parametrize(
    "users", ["", "ada:viewer", "admin:viewer", "admin:admin,ada", "admin:admin,ada:boss", "admin:admin,,x:user", "a b:user"]
)
def test_users_have_a_role_and_the_command_lines_user_is_among_them(monkeypatch, users):
    monkeypatch.setenv("WINDTUNNEL_USERS", users)
    with pytest.raises(WindtunnelError, match="WINDTUNNEL_USERS: expected NAME:ROLE, separated by commas, with admin:admin among them"):
        load_settings()


def test_another_process_finds_the_same_settings_by_the_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path))
    monkeypatch.setenv("WINDTUNNEL_MLFLOW_HOST", "mlflow")
    monkeypatch.setenv("WINDTUNNEL_QUEUES", '{"tensorflow": "big"}')
    monkeypatch.setenv("WINDTUNNEL_RUNTIME", "docker")
    monkeypatch.setenv("WINDTUNNEL_TORCHSERVE_HOST", "torchserve")
    monkeypatch.setenv("WINDTUNNEL_TORCHSERVE_MANAGEMENT_HOST", "0.0.0.0")
    monkeypatch.setenv("WINDTUNNEL_SPEECH_PORT", "7")
    settings = load_settings()
    assert settings.queues == {"tensorflow": "big"}
    for name, value in settings.variables.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_servers_with_hosts_of_their_own_are_found_there_and_published_on_one(monkeypatch):
    for server in ("AIRFLOW", "MLFLOW", "TENSORBOARD", "TORCHSERVE", "TFSERVING"):
        monkeypatch.setenv(f"WINDTUNNEL_{server}_HOST", server.lower())
    settings = load_settings()
    assert (settings.mlflow_url, settings.published.mlflow_url) == ("http://mlflow:5000", "http://127.0.0.1:5000")
    torchserve, tfserving = settings.server(TorchServeSettings), settings.server(TFServingSettings)
    assert (torchserve.management_url, torchserve.grpc) == ("http://torchserve:8081", "torchserve:7070")
    assert (tfserving.grpc, settings.published.server(TFServingSettings).grpc) == ("tfserving:8500", "127.0.0.1:8500")
    assert (tfserving.address, settings.published.servers["tfserving"].address) == ("http://tfserving:8501", "http://127.0.0.1:8501")


def test_a_server_without_a_host_of_its_own_is_on_the_platforms_host(monkeypatch):
    monkeypatch.setenv("WINDTUNNEL_HOST", "10.0.0.1")
    monkeypatch.setenv("WINDTUNNEL_TORCHSERVE_MANAGEMENT_HOST", "10.0.0.2")
    settings = load_settings()
    torchserve = settings.server(TorchServeSettings)
    assert (torchserve.address, torchserve.management_url) == ("http://10.0.0.1:8082", "http://10.0.0.2:8081")
    assert settings.server(SpeechSettings).address == "10.0.0.1:55221"


def test_values_of_servers_take_precedence_over_the_environment(monkeypatch):
    monkeypatch.setenv("windtunnel_tfserving_rest_port", "7")
    monkeypatch.setenv("WINDTUNNEL_TFSERVING_GRPC_PORT", "8")
    tfserving = Settings(servers={"tfserving": {"grpc_port": 9}}).server(TFServingSettings)
    assert tfserving.ports == {"rest_port": 7, "grpc_port": 9}
    with pytest.raises(WindtunnelError, match="WINDTUNNEL_SPEECH_GRPC_PORT: unknown name, correct or remove it"):
        Settings(servers={"speech": {"grpc_port": 9}})
    with pytest.raises(WindtunnelError, match="server 'triton' is unknown: expected one of speech, tfserving, torchserve"):
        Settings(servers={"triton": {"port": 9}})


@pytest.mark.usefixtures("extension")
def test_a_declared_backend_has_settings(monkeypatch):
    monkeypatch.setenv("WINDTUNNEL_ECHO_PORT", "7")
    settings = load_settings()
    assert (settings.servers["echo"].address, settings.variables["WINDTUNNEL_ECHO_PORT"]) == ("http://127.0.0.1:7", "7")
    assert defaults()["WINDTUNNEL_ECHO_ADMIN_PORT"] == 60001
    monkeypatch.setenv("WINDTUNNEL_ECHO_ADMIN_PORT", "many")
    with pytest.raises(WindtunnelError, match=r"^WINDTUNNEL_ECHO_ADMIN_PORT: .* \(found 'many'\)$"):
        load_settings()


HOSTS = [
    *(("HOST", host) for host in ("::1", "[::1]", "127.0.0.300", "127.0.1", "1", "", "http://127.0.0.1", "a b", "a..b", "x" * 64)),
    ("MLFLOW_HOST", "fe80::1"),
    ("TORCHSERVE_MANAGEMENT_HOST", "300.1.1.1"),
    ("TFSERVING_HOST", "fe80::1"),
]


@pytest.mark.parametrize("host", ["localhost", "10.0.0.1", "airflow-apiserver", "gpu1.example.org", "a_b", "1and1.example"])
def test_a_host_is_a_name_or_an_ipv4_address(monkeypatch, host):
    monkeypatch.setenv("WINDTUNNEL_HOST", host)
    assert load_settings().host == host


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("WINDTUNNEL_AIRFLOW_PORT", "70000", "'70000'"),
        ("WINDTUNNEL_MLFLOW_PORT", "five", "'five'"),
        ("WINDTUNNEL_TORCHSERVE_INFERENCE_PORT", "0", "'0'"),
        ("WINDTUNNEL_SPEECH_PORT", "loud", "'loud'"),
        ("WINDTUNNEL_RUNTIME", "kubernetes", "'kubernetes'"),
        *(
            (f"WINDTUNNEL_{name}", host, f"expected a host name or an IPv4 address, such as 127.0.0.1 (found {host!r})")
            for name, host in HOSTS
        ),
        ("WINDTUNNEL_HOME", "", "expected a folder (found '')"),
        ("WINDTUNNEL_HOME", "~nobody-of-this-name/x", "expected a folder: Could not determine home directory"),
        ("WINDTUNNEL_QUEUES", "{big", "expected JSON"),
        ("WINDTUNNEL_QUEUES", '{"keras": "big"}', "'keras'"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(monkeypatch, name, value, found):
    monkeypatch.setenv(name, value)
    with pytest.raises(WindtunnelError) as error:
        load_settings()
    assert str(error.value).startswith(f"{name}: ")
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_the_directory_of_a_run_has_a_name_that_can_be_mounted():
    directory = run_directory(Path("/home"), "lenet5", "manual__2026-11-22T23:46:41.5+00:00/../x y")
    assert directory == Path("/home/runs/lenet5/manual__2026-11-22T23-46-41.5-00-00-..-x-y")
