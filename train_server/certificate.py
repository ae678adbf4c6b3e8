"""The parity certificate of a run: checks of numbers that its frameworks must agree in. What is checked is the model's own.

The module that a model declares as its `parity` makes the checks and issues the certificate with these functions. If it has a text
`EXPLANATION`, the report shows it with the certificate of several frameworks.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import read_manifest
from windtunnel.run import Run
from windtunnel.tables import render


@dataclass(frozen=True)
class Check:
    """One number of the certificate. It must be at most `limit`, or at least `limit` if `at_least`; without a limit it is informative."""

    name: str
    who: str
    value: float
    limit: float | None = None
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the number meets its limit; NaN never does."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def found(self) -> str:
        """The number as text."""
        return f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:.3g}"

    @property
    def requirement(self) -> str:
        """The requirement as text."""
        return "" if self.limit is None else f"at {'least' if self.at_least else 'most'} {self.limit:.3g}"

    def __str__(self) -> str:
        return f"{self.name} ({self.who}): found {self.found}, expected {self.requirement}"


def read_versions(run: Run) -> dict[str, Path]:
    """Return the directory of each framework's version in a run.

    Raises:
        WindtunnelError: a version is missing, or two versions were trained with different specs or data.
    """
    versions = {framework: run.version(framework) for framework in run.lineage().frameworks}
    manifests = {framework: read_manifest(version) for framework, version in versions.items()}
    first = next(iter(manifests))
    for framework, manifest in manifests.items():
        for part in ("spec", "dataset"):
            expected, found = getattr(manifests[first], part), getattr(manifest, part)
            if found != expected:
                raise WindtunnelError(
                    f"{framework} was trained with a different {part} than {first}: found {found}, expected {expected}. Start a new run"
                )
    return versions


def tabulate(checks: list[Check], explanation: str) -> Table:
    """Return the certificate as a table; `explanation` is below it if two frameworks were compared."""
    caption = explanation if any("," in check.who for check in checks) else None
    table = Table("check", "frameworks", "found", "required", "", title="Parity certificate", caption=caption, caption_justify="left")
    for check in checks:
        verdict = "passed" if check.passed else "MISSED"
        table.add_row(check.name, check.who, check.found, check.requirement, "" if check.limit is None else verdict)
    return table


def issue(run: Run, checks: list[Check], explanation: str) -> None:
    """Write the certificate of a run as JSON and as a table, and print the table.

    Raises:
        WindtunnelError: a check failed. The certificate is written nevertheless.
    """
    missed = [check for check in checks if not check.passed]
    content = {"passed": not missed, "checks": [{**asdict(check), "passed": check.passed} for check in checks]}
    write_json(run.certificate, content)
    text = render(tabulate(checks, explanation))
    write_atomically(run.certificate.with_suffix(".txt"), text.encode())
    print(text)
    if missed:
        raise WindtunnelError(f"the parity certificate of {run.name} failed: {'; '.join(map(str, missed))}")
