"""A run's directory: what one execution of a DAG has written, and where."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from windtunnel.errors import WindtunnelError
from windtunnel.spec import Framework, Spec, SpeechSpec, first_problem, load_any_spec, load_spec

SKIPPED = 99  # the exit status of a task's program that found nothing to do: Airflow's own BashOperator's for a skip


class Lineage(BaseModel):
    """Where a run comes from and what it is to train: DAG run, commit of the code, frameworks, and the MLflow run theirs are nested in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dag_id: str
    run_id: str
    git_commit: str
    mlflow_run: str
    frameworks: tuple[Framework, ...]


@dataclass(frozen=True)
class Run:
    """The files of one run. Tasks pass results to each other through these, and through nothing else."""

    directory: Path

    @property
    def name(self) -> str:
        """What people see: the DAG and the run, such as `lenet5/manual__2026-11-22T23-46-41`."""
        return f"{self.directory.parent.name}/{self.directory.name}"

    @property
    def spec_file(self) -> Path:
        """The spec, the same bytes for every framework."""
        return self.directory / "spec.json"

    @property
    def lineage_file(self) -> Path:
        """Where the run comes from, as JSON."""
        return self.directory / "lineage.json"

    @property
    def conditions(self) -> Path:
        """The directory that every trainer of the run reads."""
        return self.directory / "conditions"

    @property
    def suggestions(self) -> Path:
        """What users suggested and this run took, as JSON: `accepted`, `rejected`. The clips of the accepted are beside it, see `clips`."""
        return self.directory / "suggestions.json"

    @property
    def clips(self) -> Path:
        """The clips of the accepted suggestions, in their order: `clips`, int16 (N,16000), and `labels`, uint8 (N)."""
        return self.directory / "suggestions.safetensors"

    @property
    def champion(self) -> Path:
        """The version users got when the run began, if there was one: what it is trained from, and compared with."""
        return self.directory / "champion"

    @property
    def baseline(self) -> Path:
        """The version of the tutorial's network, which the model is compared with; its spec is beside it, ending in `.spec.json`."""
        return self.directory / "baseline"

    @property
    def evaluation(self) -> Path:
        """What the versions of the run are worth beside each other, as JSON; the table beside it ends in `.txt`."""
        return self.directory / "evaluation.json"

    @property
    def certificate(self) -> Path:
        """The parity certificate, as JSON; the table beside it ends in `.txt`."""
        return self.directory / "parity.json"

    @property
    def report(self) -> Path:
        """The run's result, as JSON; the table beside it ends in `.txt`."""
        return self.directory / "report.json"

    @property
    def html(self) -> Path:
        """The run's result with plots, for a browser; it needs no other file."""
        return self.directory / "report.html"

    @property
    def benchmark(self) -> Path:
        """What the served versions were measured at, as JSON; the table beside it ends in `.txt`."""
        return self.directory / "benchmark.json"

    @property
    def spans(self) -> Path:
        """When its programs trained and measured, a line of JSON each, see `windtunnel.spans`."""
        return self.directory / "spans.jsonl"

    def version(self, framework: Framework) -> Path:
        """The directory a framework's trainer writes."""
        return self.directory / framework

    def tracked(self, framework: Framework) -> Path:
        """The id of the MLflow run that holds the framework's version."""
        return self.directory / f"{framework}.mlflow_run"

    def registered(self, framework: Framework) -> Path:
        """What the version became in the registry, as JSON."""
        return self.directory / f"{framework}.registered.json"

    def verified(self, framework: Framework) -> Path:
        """Written, as JSON, when a server has answered with the version what its trainer answered."""
        return self.directory / f"{framework}.verified.json"

    def gate(self, framework: Framework) -> Path:
        """Whether the version may be promoted and why, as JSON; the table beside it, in Markdown, ends in `.md`."""
        return self.directory / f"{framework}.gate.json"

    def released(self, framework: Framework) -> Path:
        """The release that gave users the version, as JSON."""
        return self.directory / f"{framework}.released.json"

    def spec(self) -> Spec:
        """Read the spec of a run of `lenet5`. Raises WindtunnelError where there is none."""
        return load_spec(self.spec_file)

    def any_spec(self) -> Spec | SpeechSpec:
        """Read the spec, whatever the model. Raises WindtunnelError where there is none."""
        return load_any_spec(self.spec_file)

    def lineage(self) -> Lineage:
        """Read where the run comes from.

        Raises:
            WindtunnelError: nobody has noted it.
        """
        file = self.lineage_file
        try:
            return Lineage.model_validate_json(file.read_bytes())
        except OSError as error:
            raise WindtunnelError(f"{file} cannot be read ({error.strerror}); start the run with its `conditions` task") from error
        except ValidationError as error:
            raise WindtunnelError(f"{file}: {first_problem(error)}; start the run with its `conditions` task") from error


def git_commit(root: Path) -> str:
    """The commit of the code in `root`, with `-dirty` where files differ from it.

    An image holds no checkout: there it is WINDTUNNEL_COMMIT, the one it was built from. Without either, `unknown`.
    """
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("WINDTUNNEL_COMMIT", "unknown")
