"""The report of a run for a browser: one HTML file that needs no other, nor a script."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from train_server.chance import EXPLANATION
from train_server.plots import as_svg, read_curves, serving_plots, training_plots
from windtunnel.benchmark import PROTOCOL_NAMES, read_benchmark
from windtunnel.manifest import read_manifest
from windtunnel.run import Run
from windtunnel.spans import tell


def page(run: Run, result: dict[str, Any]) -> str:
    """The page of a run whose `result` is what `train_server.report.summarise` found.

    Raises:
        WindtunnelError: the run's benchmark or a manifest cannot be read.
    """
    curves, benchmark = read_curves(run), read_benchmark(run.benchmark)
    return render(
        "report.html.j2",
        result=result,
        split=tell(result["split"]),
        certificate=json.loads(run.certificate.read_text()) if run.certificate.exists() else None,
        chance=EXPLANATION,
        benchmark=benchmark,
        manifests={framework: read_manifest(run.version(framework)) for framework in curves},
        training=training_plots(curves) if curves else [],
        serving=serving_plots(benchmark) if benchmark else [],
    )


def render(template: str, **values: Any) -> str:
    """A page made of a template in `train_server`."""
    environment = Environment(
        loader=PackageLoader("train_server", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "svg": lambda plot: Markup(as_svg(plot)),
        "spread": _spread,
        "latency": _latency,
        "protocol": PROTOCOL_NAMES.get,
    }
    return environment.get_template(template).render(**values)


def _spread(values: Sequence[float]) -> str:
    """Median, and least to most in brackets."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def _latency(seconds: Sequence[float]) -> str:
    """The median in milliseconds."""
    return f"{1000 * statistics.median(seconds):.2f}"
