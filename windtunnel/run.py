"""The directory of a run: the files that one execution of a DAG writes."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from windtunnel.errors import WindtunnelError
from windtunnel.model import FrameworkName, load_any_spec
from windtunnel.spec import Training, first_problem

SKIPPED = 99  # the exit status with which a program skips its task, as for Airflow's BashOperator


class Lineage(BaseModel):
    """The origin of a run: the DAG run, the commit of the code, the frameworks to train, and the MLflow run that is their parent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dag_id: str
    run_id: str
    git_commit: str
    mlflow_run: str
    frameworks: tuple[FrameworkName, ...]


@dataclass(frozen=True)
class Run:
    """The files of one run. Tasks pass results to each other only through these files."""

    directory: Path

    @property
    def name(self) -> str:
        """The name shown to users: the DAG and the run, such as `lenet5/manual__2026-11-22T23-46-41`."""
        return f"{self.directory.parent.name}/{self.directory.name}"

    @property
    def spec_file(self) -> Path:
        """The spec, the same bytes for every framework."""
        return self.directory / "spec.json"

    @property
    def lineage_file(self) -> Path:
        """The origin of the run, as JSON."""
        return self.directory / "lineage.json"

    @property
    def conditions(self) -> Path:
        """The directory that every trainer of the run reads."""
        return self.directory / "conditions"

    @property
    def suggestions(self) -> Path:
        """The suggestions that this run claimed, as JSON: `accepted`, `rejected`. See `clips` for the clips of the accepted ones."""
        return self.directory / "suggestions.json"

    @property
    def clips(self) -> Path:
        """The clips of the accepted suggestions, in the same order: `clips`, int16 (N,16000), and `labels`, uint8 (N)."""
        return self.directory / "suggestions.safetensors"

    @property
    def champion(self) -> Path:
        """The champion at the start of the run, if there was one: training starts from it, and the new version is compared with it."""
        return self.directory / "champion"

    @property
    def baseline(self) -> Path:
        """The version of the tutorial's network, for comparison. Its spec is a file beside it that ends in `.spec.json`."""
        return self.directory / "baseline"

    @property
    def evaluation(self) -> Path:
        """The comparison of the run's versions, as JSON. The table is a file beside it that ends in `.txt`."""
        return self.directory / "evaluation.json"

    @property
    def certificate(self) -> Path:
        """The parity certificate, as JSON. The table is a file beside it that ends in `.txt`."""
        return self.directory / "parity.json"

    @property
    def report(self) -> Path:
        """The result of the run, as JSON. The table is a file beside it that ends in `.txt`."""
        return self.directory / "report.json"

    @property
    def html(self) -> Path:
        """The result of the run as an HTML page with plots, in one self-contained file."""
        return self.directory / "report.html"

    @property
    def benchmark(self) -> Path:
        """The benchmark of the served versions, as JSON. The table is a file beside it that ends in `.txt`."""
        return self.directory / "benchmark.json"

    @property
    def spans(self) -> Path:
        """When the run's programs trained and measured, one JSON object per line. See `windtunnel.spans`."""
        return self.directory / "spans.jsonl"

    def version(self, framework: str) -> Path:
        """Return the directory that a framework's trainer writes."""
        return self.directory / framework

    def tracked(self, framework: str) -> Path:
        """Return the file with the id of the framework's MLflow run."""
        return self.directory / f"{framework}.mlflow_run"

    def registered(self, framework: str) -> Path:
        """Return the file with the registered version, as JSON."""
        return self.directory / f"{framework}.registered.json"

    def verified(self, framework: str) -> Path:
        """Return the file, in JSON, that is written when the server's answers match those of the trainer."""
        return self.directory / f"{framework}.verified.json"

    def gate(self, framework: str) -> Path:
        """Return the file with the gate's decision and its reasons, as JSON. The table, in Markdown, is beside it and ends in `.md`."""
        return self.directory / f"{framework}.gate.json"

    def released(self, framework: str) -> Path:
        """Return the file with the release that promoted the version, as JSON."""
        return self.directory / f"{framework}.released.json"

    def spec(self) -> Training:
        """Read the spec, of the type that its model declares. Raises WindtunnelError if it is missing."""
        return load_any_spec(self.spec_file)

    def lineage(self) -> Lineage:
        """Read the origin of the run.

        Raises:
            WindtunnelError: the file is missing or not valid.
        """
        file = self.lineage_file
        try:
            return Lineage.model_validate_json(file.read_bytes())
        except OSError as error:
            raise WindtunnelError(f"{file} cannot be read ({error.strerror}); start the run with its `conditions` task") from error
        except ValidationError as error:
            raise WindtunnelError(f"{file}: {first_problem(error)}; start the run with its `conditions` task") from error


def git_commit(root: Path) -> str:
    """Return the commit of the code in `root`, with `-dirty` if files differ from it.

    In an image, which contains no checkout, it is WINDTUNNEL_COMMIT, the commit that the image was built from. Otherwise it is `unknown`.
    """
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("WINDTUNNEL_COMMIT", "unknown")
