"""A DAG for each model that a package declares and that has no file of its own in this folder."""

from pathlib import Path

from airflow.sdk import DAG

from dags.form import DATASET, margin_param, spec_params
from dags.lifecycle import add_tasks, frameworks_param, release_params
from dags.steps import common, docs_url
from windtunnel.backend import backend_problems
from windtunnel.errors import WindtunnelError
from windtunnel.model import Model, declarations

DOC = """# {title}

Trains {title} with {frameworks}, and registers a version of each, with its lineage.{parity}
Loads each version on a real server beside the champion, checks its answers, and measures its speed.
Promotes a version only if its answers are correct and it is not worse than the champion, in {metric}; otherwise users keep what they have.

Press *Trigger* to start a run. Its tab *Report* shows the result; a skipped task has the reason in its log and in its XCom `skipped`.

Read more: [each task of a run]({tasks}), [releases and rollback]({releases}), [terms]({terms}).
"""
PARITY = "\nCertifies that the frameworks trained the same model."


def declared_dag(model: Model) -> DAG:
    """Return the DAG of a declared model.

    Raises:
        WindtunnelError: a field of the spec has the name of a parameter that every run has.
    """
    before = {"frameworks": frameworks_param(model, "The frameworks to train with."), "dataset": DATASET}
    fields, after = spec_params(model), release_params(margin_param(model.metric))
    if taken := fields.keys() & (before | after).keys():
        raise WindtunnelError(f"its spec has a field {min(taken)!r}, which is a parameter of every run: rename the field")
    frameworks = ", ".join(model.framework_names)
    links = {"tasks": docs_url("releases.md#the-tasks-of-a-run"), "releases": docs_url("releases.md"), "terms": docs_url("concepts.md")}
    words = {"title": model.title, "metric": model.metric.name, "frameworks": frameworks, **links}
    with DAG(
        model.name,
        description=f"Train {model.title} with {frameworks}, and release it",
        doc_md=DOC.format(**words, parity=PARITY if model.parity else ""),
        schedule=None,
        params=before | fields | after,
        auto_register=False,  # only if it is complete, and not for wrong_declarations.py, which imports this file
        **common(package_of(model), "declared"),
    ) as dag:
        add_tasks(model, fields)
    return dag


def package_of(model: Model) -> str:
    """Return the name of the package that declares a model."""
    return getattr(model.spec, "__module__", "an unknown package").partition(".")[0]


problems = [str(error) for error in (*backend_problems().values(), *declarations().problems.values())]
for declared in declarations().models.values():
    if Path(__file__).with_name(f"{declared.name}.py").exists():
        continue
    try:
        globals()[f"dag_{declared.name}"] = declared_dag(declared)
    except Exception as error:  # it is made of another package's code
        problems.append(f"the model {declared.name} of {package_of(declared)} has no DAG ({error!r}). Repair or uninstall the package")
