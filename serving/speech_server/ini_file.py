"""The server's configuration: an INI file with the keys of the first speech server, and new keys with defaults."""

import os
import re
from configparser import ConfigParser
from configparser import Error as IniError
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from serving.speech_server.declaration import SpeechSettings
from windtunnel.errors import WindtunnelError
from windtunnel.platform.secrets import USER, password_file
from windtunnel.recognizer import Share
from windtunnel.settings import Settings

DAG = "speech_commands"
CONCURRENT = 1200
"""Concurrent RPCs of the platform's own server and of `server.ini`: 1,000 clients, and some for operators."""

KEEP_DAYS = 90
"""How many days the platform's own server keeps rejected suggestions; also the value in `server.ini`."""

SECTIONS = ("RPCServer", "DLServer", "Retraining")


def _endpoint(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535 or (":" in host and not host.startswith("[")):
        raise ValueError("expected HOST:PORT, such as 0.0.0.0:55221 or [::]:55221")
    return value


def _none(value: Any) -> Any:
    return None if value == "" else value


Endpoint = Annotated[str, AfterValidator(_endpoint)]
File = Annotated[Path, BeforeValidator(_none), AfterValidator(Path.absolute)]
Empty = BeforeValidator(_none)


class Config(BaseModel):
    """The contents of an INI file; each field's alias is its section and key. Relative paths start at the working directory.

    Attributes:
        endpoint: HOST:PORT on which gRPC is served.
        max_concurrent_rpcs: limit of concurrent calls; further calls wait, and if too many wait they get RESOURCE_EXHAUSTED.
        certificate, key: PEM files; with both, the server uses TLS.
        tokens: a file of lines `NAME TOKEN`; with it, calls need `authorization: Bearer TOKEN`.
        metrics: HOST:PORT on which Prometheus metrics are served, over HTTP without a token.
        workers: number of batches computed at the same time, each on a core.
        journal: the SQLite database of suggestions.
        infer_uploads: the folder where the audio of inference requests is kept; if empty, it is not kept.
        suggestions: the folder of the suggestions' WAVs.
        base_samples: recordings to train with besides suggestions, instead of the usual data set.
        models: the folder of published versions and `models.json`.
        model: the version that answers while nothing is published.
        samples_before_train: number of new suggestions that triggers retraining.
        reject_below: probability below which a clip is rejected as no command; if empty, each version's own.
        suggestions_per_hour: quota of suggestions per peer and hour.
        upload_megabytes: disk space for suggestions, and the same again for inference audio.
        keep_days: how long rejected suggestions and inference audio are kept; forever if the key is missing.
        airflow_url: the Airflow that retrains; without it, a local process does.
        airflow_user, airflow_password_file: the user; the file contains the password, or is Airflow's own JSON of users and passwords.
        dag: the DAG that retrains.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    endpoint: Endpoint = Field(validation_alias="RPCServer.Endpoint")
    max_concurrent_rpcs: PositiveInt = Field(validation_alias="RPCServer.MaxConcurrentRPCs")
    certificate: Annotated[File | None, Empty] = Field(default=None, validation_alias="RPCServer.CertificateFile")
    key: Annotated[File | None, Empty] = Field(default=None, validation_alias="RPCServer.KeyFile")
    tokens: Annotated[File | None, Empty] = Field(default=None, validation_alias="RPCServer.TokensFile")
    metrics: Annotated[Endpoint | None, Empty] = Field(default=None, validation_alias="RPCServer.MetricsEndpoint")

    workers: PositiveInt = Field(validation_alias="DLServer.IWorkers")
    journal: File = Field(validation_alias="DLServer.StateFile")
    infer_uploads: Annotated[File | None, Empty] = Field(validation_alias="DLServer.InferUploadPath")
    suggestions: File = Field(validation_alias="DLServer.TrainingUploadPath")
    base_samples: Annotated[File | None, Empty] = Field(validation_alias="DLServer.BaseSamplesPath")
    models: File = Field(validation_alias="DLServer.NewModelsPath")
    model: Annotated[File | None, Empty] = Field(validation_alias="DLServer.ModelPath")
    samples_before_train: PositiveInt = Field(validation_alias="DLServer.SamplesBeforeTrain")
    reject_below: Annotated[Share | None, Empty] = Field(default=None, validation_alias="DLServer.RejectBelow")
    suggestions_per_hour: PositiveInt = Field(default=1000, validation_alias="DLServer.SuggestionsPerPeerPerHour")
    upload_megabytes: PositiveInt = Field(default=1024, validation_alias="DLServer.UploadMegabytes")
    keep_days: Annotated[PositiveInt | None, Empty] = Field(default=None, validation_alias="DLServer.KeepDays")

    airflow_url: Annotated[str | None, Empty] = Field(default=None, validation_alias="Retraining.AirflowURL", pattern=r"^https?://\S+$")
    airflow_user: str = Field(default=USER, validation_alias="Retraining.User", min_length=1)
    airflow_password_file: Annotated[File | None, Empty] = Field(default=None, validation_alias="Retraining.PasswordFile")
    dag: str = Field(default=DAG, validation_alias="Retraining.Dag", min_length=1)

    @property
    def upload_bytes(self) -> int:
        """`upload_megabytes` in bytes."""
        return self.upload_megabytes * 1024 * 1024

    @classmethod
    def of(cls, settings: Settings) -> "Config":
        """Return the configuration of the platform's own server, from the settings; its files are in `serving/speech` of their home."""
        home = settings.serving / "speech"
        return cls(
            endpoint=f"{settings.host}:{settings.server(SpeechSettings).port}",
            max_concurrent_rpcs=CONCURRENT,
            workers=max(1, len(os.sched_getaffinity(0)) - 1),  # the last core reads requests
            journal=home / "suggestions.db",
            infer_uploads=None,
            suggestions=home / "suggestions",
            base_samples=None,
            models=home / "models",
            model=None,
            samples_before_train=100,
            keep_days=KEEP_DAYS,
            airflow_url=settings.airflow_url,
            airflow_password_file=password_file(settings),
        )


def read_config(file: Path) -> Config:
    """Read an INI file in UTF-8, with or without a byte order mark. Comments are whole lines, or follow ` ;` or ` #` in a line.

    A value may be quoted. In paths, `~` and `$NAME` are expanded as in a shell. `%` has no special meaning.

    Raises:
        WindtunnelError: it cannot be read, or a key is missing, unknown or has a wrong value; the message names file, section and key.
    """
    # `Key = value  ; why` is common in INI files. A comment read as a value would be a path, and enable what an empty value disables.
    parser = ConfigParser(inline_comment_prefixes=(";", "#"), interpolation=None)
    try:
        parser.read_string(file.read_text("utf-8-sig"), str(file))
        found = {(section, key): parser[section][key] for section in parser.sections() for key in parser[section]}
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}). Give an INI file such as server.ini") from error
    except (IniError, UnicodeDecodeError) as error:
        raise WindtunnelError(f"{file} is not an INI file ({' '.join(str(error).split())}). Write it like server.ini") from error
    aliases = {tuple(str(field.validation_alias).lower().split(".")): str(field.validation_alias) for field in Config.model_fields.values()}
    values = {}
    for (section, key), value in found.items():
        alias = aliases.get((section.lower(), key))  # keys have always been case-insensitive
        if alias is not None and alias.partition(".")[0] == section:
            try:
                values[alias] = _plain(value.strip(), is_path=alias.endswith(("File", "Path")))
            except ValueError as error:
                raise WindtunnelError(f"{file}: [{section}] {alias.partition('.')[2]} = {value}: {error}") from error
        elif key not in parser.defaults():  # those are in every section
            raise WindtunnelError(f"{file}: [{section}] {key} = {value} is unknown: {_known(section)}. Remove it")
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise WindtunnelError(f"{file}: {_problem(error)}") from error
    if (config.certificate is None) != (config.key is None):
        there, missing = ("KeyFile", "CertificateFile") if config.certificate is None else ("CertificateFile", "KeyFile")
        raise WindtunnelError(f"{file}: [RPCServer] {there} = {config.certificate or config.key} needs {missing} too. Set both or none")
    return config


def _plain(value: str, is_path: bool) -> str:
    """Return a value without its quotes, and a path expanded as in a shell.

    Raises:
        ValueError: the value is ambiguous, or refers to something that does not exist.
    """
    if (found := re.search(r"%%|%\(\w+\)s", value)) is not None:
        raise ValueError(f"{found[0]} no longer has a special meaning. Write the intended value")
    if (quoted := re.fullmatch(r"""(["'])(.*)\1""", value)) is not None:
        value = quoted[2]
    elif value.startswith(("'", '"')) or value.endswith(("'", '"')):
        raise ValueError("a quote is missing. Write both or none")
    if not is_path:
        return value
    value = os.path.expanduser(os.path.expandvars(value))
    if (unset := re.search(r"\$(\w+|\{.*?\})", value)) is not None:
        raise ValueError(f"the variable {unset[0]} is not set. Set it, or write the path itself")
    if value.startswith("~"):
        raise ValueError(f"there is no user {value[1:].partition('/')[0]}. Write the path itself")
    return value


def _known(section: str) -> str:
    names = (str(field.validation_alias).split(".") for field in Config.model_fields.values())
    keys = [key for place, key in names if place == section]
    return f"expected one of the keys {', '.join(keys)}" if keys else f"expected one of the sections {', '.join(SECTIONS)}"


def _problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    section, _, key = str(problem["loc"][0]).partition(".")
    if problem["type"] == "missing":
        return f"[{section}] {key} is missing. Add it as in server.ini"
    return f"[{section}] {key} = {problem['input'] or ''}: {problem['msg'].removeprefix('Value error, ')}. Change it"
