from pathlib import Path

import pytest

from serving.speech_server.ini_file import KEEP_DAYS, Config, read_config
from tests.serving.speech_server.running_speech import ini
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT, Settings


def write(folder: Path, text: str) -> Path:
    file = folder / "server.ini"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", ["server.ini", "server_container.ini"])
def test_the_projects_own_files_are_read(name: str) -> None:
    config = read_config(ROOT / name)
    assert config.endpoint == "0.0.0.0:55221"
    assert config.infer_uploads is None
    assert config.airflow_url is None
    assert config.keep_days == KEEP_DAYS
    assert config.reject_below is None


def test_an_old_file_is_read_as_before(tmp_path: Path) -> None:
    text = ini(tmp_path, "[::]:55221", InferUploadPath="uploads", ModelPath=f"{tmp_path}/model").replace("IWorkers", "iworkers")
    config = read_config(write(tmp_path, text))
    assert config.infer_uploads == Path("uploads").absolute(), "relative to where the server is started"
    assert config.model == tmp_path / "model"
    assert (config.suggestions_per_hour, config.keep_days, config.tokens, config.metrics) == (1000, None, None, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("SamplesBeforeTrain = 100", ""), "[DLServer] SamplesBeforeTrain is missing. Add it as in server.ini"),
        (("IWorkers = 1", "IWorkers = none"), "[DLServer] IWorkers = none: "),
        (("MaxConcurrentRPCs = 1200", "MaxConcurrentRPCs = 0"), "[RPCServer] MaxConcurrentRPCs = 0: "),
        (("IWorkers", "Workers"), "[DLServer] workers = 1 is unknown: expected one of the keys IWorkers, StateFile"),
        (("[DLServer]", "[DLserver]"), "[DLserver] iworkers = 1 is unknown: expected one of the sections RPCServer, DLServer"),
        (("127.0.0.1:55221", "55221"), "[RPCServer] Endpoint = 55221: expected HOST:PORT, such as 0.0.0.0:55221"),
        (("[DLServer]", "KeyFile = key.pem\n[DLServer]"), "needs CertificateFile too"),
        (("[DLServer]", "[Retraining]\nAirflowURL = airflow:8080\n[DLServer]"), "[Retraining] AirflowURL = airflow:8080: "),
        (("ModelPath =", "RejectBelow = 1.5\nModelPath ="), "[DLServer] RejectBelow = 1.5: "),
        (("ModelPath =", "RejectBelow = nan\nModelPath ="), "[DLServer] RejectBelow = nan: "),
        (("[RPCServer]\n", ""), "is not an INI file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    file = write(tmp_path, ini(tmp_path, "127.0.0.1:55221").replace(*change))
    with pytest.raises(WindtunnelError) as caught:
        read_config(file)
    assert str(file) in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("comment", [";", "#", "; kept for {90} days", "# it's = [not] kept"], ids=["semicolon", "hash", "words", "signs"])
def test_a_comment_behind_a_value_is_none_of_it(tmp_path: Path, comment: str, mark: str) -> None:
    text = ini(tmp_path, "127.0.0.1:55221", InferUploadPath=f"  {comment}", ModelPath=f"a;b#c \t{comment}")
    text = mark + "# A comment first\n" + text.replace("55221", f"55221 {comment}")
    config = read_config(write(tmp_path, text))
    assert config.infer_uploads is None, "no audio of users is kept"
    assert config.model == Path("a;b#c").absolute()
    assert config.endpoint == "127.0.0.1:55221"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"a folder/model"', "a folder/model"),
        ("'model'  ; why", "model"),
        ("~/model", "{HOME}/model"),
        ("$PLACE/model", "/the place/model"),
        ('"${PLACE}/model"', "/the place/model"),
        ("100%/a%20b", "100%/a%20b"),
        ("don't/model", "don't/model"),
        ('""', None),
    ],
)
def test_a_path_is_what_a_shell_would_take_it_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, meant: str | None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "/the place")
    config = read_config(write(tmp_path, ini(tmp_path, "'127.0.0.1:55221'", ModelPath=written)))
    assert config.model == (None if meant is None else Path(meant.format(HOME=tmp_path)).absolute())
    assert config.endpoint == "127.0.0.1:55221"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('"model', "a quote is missing. Write both or none"),
        ('model"', "a quote is missing"),
        ('"', "a quote is missing"),
        ('"a # b"', "a quote is missing"),
        ("$PLACE/model", "the variable $PLACE is not set. Set it, or write the path itself"),
        ("${PLACE}/model", "the variable ${PLACE} is not set"),
        ("~nobody-here/model", "there is no user nobody-here. Write the path itself"),
        ("%(folder)s/model", "%(folder)s no longer has a special meaning. Write the intended value"),
        ("100%%/model", "%% no longer has a special meaning"),
    ],
)
def test_a_path_that_can_mean_two_things_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, words: str) -> None:
    monkeypatch.delenv("PLACE", raising=False)
    with pytest.raises(WindtunnelError) as caught:
        read_config(write(tmp_path, ini(tmp_path, "127.0.0.1:55221", ModelPath=written)))
    assert "server.ini: [DLServer] ModelPath = " in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WindtunnelError, match=r"none.ini cannot be read \(No such file"):
        read_config(tmp_path / "none.ini")


def test_the_platforms_own_server_keeps_all_below_its_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, servers={"speech": {"port": 7}})
    config = Config.of(settings)
    assert config.endpoint == "127.0.0.1:7"
    assert config.airflow_url == settings.airflow_url
    for place in (config.journal, config.suggestions, config.models):
        assert place.is_relative_to(tmp_path / "serving" / "speech")
