"""The server's configuration: an INI file, with the keys that the first speech server had and new ones that have defaults."""

import os
import re
from configparser import ConfigParser
from configparser import Error as IniError
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from windtunnel.errors import WindtunnelError
from windtunnel.secrets import USER, password_file
from windtunnel.settings import Settings
from windtunnel.speech import Share

DAG = "speech_commands"
CONCURRENT = 1200
"""RPCs at a time, in the platform's own server and in `server.ini`: 1,000 clients, and room for those who look after it."""

KEEP_DAYS = 90
"""How long the platform's own server keeps what was rejected, and `server.ini` too."""

SECTIONS = ("RPCServer", "DLServer", "Retraining")


def _endpoint(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535 or (":" in host and not host.startswith("[")):
        raise ValueError("must be HOST:PORT, such as 0.0.0.0:55221 or [::]:55221")
    return value


def _none(value: Any) -> Any:
    return None if value == "" else value


Endpoint = Annotated[str, AfterValidator(_endpoint)]
File = Annotated[Path, BeforeValidator(_none), AfterValidator(Path.absolute)]
Empty = BeforeValidator(_none)


class Config(BaseModel):
    """What an INI file says; each field's alias is its section and key. Relative paths are below the folder the server is started in.

    Attributes:
        endpoint: HOST:PORT on which gRPC is served.
        max_concurrent_rpcs: more at a time wait, and if they are too many are RESOURCE_EXHAUSTED.
        certificate, key: PEM files; with both, TLS is spoken.
        tokens: a file of lines `NAME TOKEN`; with it, calls need `authorization: Bearer TOKEN`.
        metrics: HOST:PORT on which Prometheus finds metrics, over HTTP; it asks for no token.
        workers: batches computed at a time, a core each.
        journal: the SQLite database of suggestions.
        infer_uploads: where the audio of inference requests is kept; not, if empty.
        suggestions: where the WAVs of suggestions are.
        base_samples: what the model is trained with besides suggestions, if not the usual data set.
        models: where published versions are, and `models.json`.
        model: the version that answers while nothing is published.
        samples_before_train: new suggestions after which a retraining is asked for.
        reject_below: below which probability a clip is no command; if empty, each version's own.
        suggestions_per_hour: how many are taken of one peer within an hour.
        upload_megabytes: disk space for suggestions, and as much for inference audio.
        keep_days: how long rejected suggestions and inference audio are kept; for ever, if the key is not there.
        airflow_url: Airflow that retrains; without one, a local process does.
        airflow_user, airflow_password_file: who asks it; the file holds the password, or is Airflow's own JSON of users and passwords.
        dag: which DAG retrains.
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
        """The platform's own server: where its settings say, with all it keeps below `serving/speech` of their home."""
        home = settings.serving / "speech"
        return cls(
            endpoint=f"{settings.host}:{settings.speech_port}",
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
    """Read an INI file, in UTF-8 with or without a byte order mark. A comment is a line, or what follows ` ;` or ` #` in one.

    A value may be quoted. In a path, `~` and `$NAME` are what they are in a shell. `%` is a character like others.

    Raises:
        WindtunnelError: it cannot be read, or a key is missing, unknown or has a wrong value; the text names file, section and key.
    """
    # `Key = value  ; why` is common in INI files: a comment taken for a value would be a path, and switch on what an empty one leaves off
    parser = ConfigParser(inline_comment_prefixes=(";", "#"), interpolation=None)
    try:
        parser.read_string(file.read_text("utf-8-sig"), str(file))
        found = {(section, key): parser[section][key] for section in parser.sections() for key in parser[section]}
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}): give an INI file such as server.ini") from error
    except (IniError, UnicodeDecodeError) as error:
        raise WindtunnelError(f"{file} is no INI file ({' '.join(str(error).split())}): write it as server.ini is") from error
    aliases = {tuple(str(field.validation_alias).lower().split(".")): str(field.validation_alias) for field in Config.model_fields.values()}
    values = {}
    for (section, key), value in found.items():
        alias = aliases.get((section.lower(), key))  # keys are read without regard to case, and always were
        if alias is not None and alias.partition(".")[0] == section:
            try:
                values[alias] = _plain(value.strip(), is_path=alias.endswith(("File", "Path")))
            except ValueError as error:
                raise WindtunnelError(f"{file}: [{section}] {alias.partition('.')[2]} = {value}: {error}") from error
        elif key not in parser.defaults():  # which are in every section, wanted or not
            raise WindtunnelError(f"{file}: [{section}] {key} = {value} is unknown: remove it; {_known(section)}")
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise WindtunnelError(f"{file}: {_problem(error)}") from error
    if (config.certificate is None) != (config.key is None):
        there, missing = ("KeyFile", "CertificateFile") if config.certificate is None else ("CertificateFile", "KeyFile")
        raise WindtunnelError(f"{file}: [RPCServer] {there} = {config.certificate or config.key} needs {missing} too: name both, or none")
    return config


def _plain(value: str, is_path: bool) -> str:
    """A value without its quotes, and a path as a shell would have it.

    Raises:
        ValueError: what is meant cannot be told, or is not there.
    """
    if (found := re.search(r"%%|%\(\w+\)s", value)) is not None:
        raise ValueError(f"{found[0]} stood for something else once, and no longer does; write what is meant")
    if (quoted := re.fullmatch(r"""(["'])(.*)\1""", value)) is not None:
        value = quoted[2]
    elif value.startswith(("'", '"')) or value.endswith(("'", '"')):
        raise ValueError("a quote is missing; write both, or none")
    if not is_path:
        return value
    value = os.path.expanduser(os.path.expandvars(value))
    if (unset := re.search(r"\$(\w+|\{.*?\})", value)) is not None:
        raise ValueError(f"the variable {unset[0]} is not set; set it, or write the path itself")
    if value.startswith("~"):
        raise ValueError(f"there is no user {value[1:].partition('/')[0]}; write the path itself")
    return value


def _known(section: str) -> str:
    names = (str(field.validation_alias).split(".") for field in Config.model_fields.values())
    keys = [key for place, key in names if place == section]
    return f"[{section}] has {', '.join(keys)}" if keys else f"there are the sections {', '.join(SECTIONS)}"


def _problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    section, _, key = str(problem["loc"][0]).partition(".")
    if problem["type"] == "missing":
        return f"[{section}] {key} is missing: add it, as in server.ini"
    return f"[{section}] {key} = {problem['input'] or ''}: {problem['msg'].removeprefix('Value error, ')}; change it"
