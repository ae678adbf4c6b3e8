"""The report of a run as one self-contained HTML file without scripts."""

import importlib
import json
import statistics
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from train_server.reporting.plots import Plot, as_svg, read_curves, serving_key, serving_plots, training_key, training_plots
from windtunnel.benchmark_result import PROTOCOL_NAMES, read_benchmark
from windtunnel.manifest import read_manifest
from windtunnel.model import Model, find_model
from windtunnel.run import Run
from windtunnel.spans import tell


def page(run: Run, result: dict[str, Any]) -> str:
    """Return the HTML page of a run; `result` is the return value of `train_server.reporting.report.summarise`.

    Raises:
        WindtunnelError: the run's benchmark or a manifest cannot be read.
    """
    curves, benchmark, model = read_curves(run), read_benchmark(run.benchmark), find_model(run.spec().model)
    return render(
        "reporting/report.html.j2",
        result=result,
        model=model,
        split=tell(result["split"]),
        certificate=json.loads(run.certificate.read_text()) if run.certificate.exists() else None,
        explanation=_explanation(model),
        benchmark=benchmark,
        manifests={framework: read_manifest(run.version(framework)) for framework in curves},
        training=training_plots(model, curves) if curves else [],
        training_key=training_key(model, curves),
        serving=serving_plots(benchmark) if benchmark else [],
        serving_key=serving_key(benchmark) if benchmark else [],
    )


def _explanation(model: Model) -> str:
    """Return the text that the module which certifies runs of a model has for the report; empty if it has none."""
    return getattr(importlib.import_module(model.parity), "EXPLANATION", "") if model.parity else ""


def render(template: str, **values: Any) -> str:
    """Render a template; `template` is its path in `train_server`."""
    environment = Environment(
        loader=PackageLoader("train_server", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "svg": _svg,
        "spread": _spread,
        "latency": _latency,
        "protocol": PROTOCOL_NAMES.get,
    }
    return environment.get_template(template).render(**values)


def _svg(plot: Plot, legend: bool) -> Markup:
    """Draw a plot, with its own legend or without."""
    return Markup(as_svg(plot, legend))


def _spread(values: Sequence[float]) -> str:
    """Format the median, with minimum and maximum in parentheses."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def _latency(seconds: Sequence[float]) -> str:
    """Format the median in milliseconds."""
    return f"{1000 * statistics.median(seconds):.2f}"
