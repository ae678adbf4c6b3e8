"""Make a run's conditions: the inputs that its frameworks share byte for byte.

    python -m train_server.conditions --run DIR --model lenet5 --dag-id lenet5 --run-id ID --param epochs=2

No framework draws, shuffles or schedules anything itself: the function that the model declares as its `conditions` does so once, and the
trainers read what it wrote (`train_server/README.md`).
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from windtunnel.data.datasets import Content
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_atomically, write_json
from windtunnel.model import Model, find_model
from windtunnel.platform.program import run_program
from windtunnel.run import Lineage, Run, git_commit
from windtunnel.settings import load_settings
from windtunnel.spec import Training, first_problem
from windtunnel.tracking import client, reachable, start_parent

_Spec = TypeVar("_Spec", bound=Training)


def write_conditions(run: Run, data: Content, draw: Callable[[Path], _Spec], with_spec: bool = True) -> _Spec:
    """Write the spec and the conditions of a run atomically, and return the spec. The same files replace those of an earlier attempt.

    Args:
        run: the run.
        data: its data.
        draw: writes the files that all frameworks share into an empty directory, and returns the spec.
        with_spec: whether the spec is one of the conditions. It is not if the run trains with other specs, too.
    """
    partial = run.conditions.with_name(run.conditions.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        spec = draw(partial)
        write_atomically(run.spec_file, spec.model_dump_json(indent=2).encode())
        shared = [*([run.spec_file] if with_spec else []), *partial.iterdir()]
        write_json(partial / "conditions.json", {"files": {file.name: sha256(file) for file in shared}, "dataset": data.lineage()})
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(run.conditions, ignore_errors=True)
    partial.rename(run.conditions)
    return spec


def check_samples(spec: Training, model: Model, data: Content, available: int) -> None:
    """Check that the data has as many training samples, `available`, as the spec.

    Raises:
        WindtunnelError: it has fewer.
    """
    if spec.samples > available:
        raise WindtunnelError(
            f"samples is {spec.samples}, expected at most {available}, the training {model.sample}s of {data.name}, or all"
        )


def training_samples(data: Content) -> int:
    """Return the number of training samples in the data.

    Raises:
        WindtunnelError: no part of the data is named `train`.
    """
    counts = data.counts()
    if "train" not in counts:
        raise WindtunnelError(f"data set {data.name} has no part named train: found {', '.join(counts) or 'none'}. Name a part so")
    return counts["train"]


def draw_declared(model: Model, data: Content, chosen: Mapping[str, Any], directory: Path) -> Training:
    """Return the spec of a run, and let the function that the model declares write the conditions into `directory`.

    Args:
        model: the model. If it declares no such function, the frameworks share only the spec.
        data: the run's data.
        chosen: the fields of the spec that the user has chosen.
        directory: an empty directory.

    Raises:
        WindtunnelError: a field of the spec is invalid, or the declared function cannot be loaded or returns something else.
    """
    try:
        if model.conditions:
            spec = model.load(model.conditions)(data, chosen, directory)
            if not isinstance(spec, model.spec):
                what = f"found {type(spec).__name__}, expected {model.spec.__name__}"
                raise WindtunnelError(f"{model.conditions} returned no spec of {model.name}: {what}. Repair the package")
            return spec
        available = training_samples(data)
        spec = model.spec.model_validate({"samples": available, **chosen, "dataset": data.name})
        check_samples(spec, model, data, available)
        return spec
    except ValidationError as error:
        raise WindtunnelError(f"the spec is invalid: {first_problem(error)}") from error


def choose_frameworks(model: Model, names: str) -> tuple[str, ...]:
    """Return the frameworks of a model in `names`, a list separated by commas; its default frameworks if the list is empty.

    Raises:
        WindtunnelError: a framework is unknown.
    """
    wanted = set(names.split(",")) if names else set(model.default_frameworks)
    for name in sorted(wanted):
        model.framework(name)
    return tuple(name for name in model.framework_names if name in wanted)


def parse_fields(given: Iterable[str]) -> dict[str, Any]:
    """Return the chosen fields of a spec from `name=value` pairs. A value is JSON, or else text; `null` leaves the field out.

    Raises:
        WindtunnelError: a pair has no `=`, or names the data set.
    """
    chosen: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise WindtunnelError(f"--param {pair}: found no '=', expected name=value")
        if name == "dataset":
            raise WindtunnelError(f"--param {pair}: the data set is no field to choose. Name it with --dataset {text}")
        try:
            chosen[name] = json.loads(text)
        except (ValueError, RecursionError):
            chosen[name] = text
    return {name: value for name, value in chosen.items() if value is not None}


def note_lineage(run: Run, dag_id: str, run_id: str, frameworks: tuple[str, ...], fingerprint: str) -> None:
    """Start a run in MLflow and write its lineage. A retry changes nothing: MLflow has the run already.

    `fingerprint` is the fingerprint of the data.
    """
    if run.lineage_file.exists():
        return
    settings = load_settings()
    commit = git_commit(settings.root)
    tags = {"dag_id": dag_id, "run_id": run_id, "git_commit": commit, "data_fingerprint": fingerprint}
    with reachable(settings):
        parent = start_parent(client(settings), run.spec().model, run_id, tags)
    lineage = Lineage(dag_id=dag_id, run_id=run_id, git_commit=commit, mlflow_run=parent, frameworks=frameworks)
    write_json(run.lineage_file, lineage.model_dump())


def main(
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    model: Annotated[str, typer.Option(help="The model to train.")],
    dag_id: Annotated[str, typer.Option(help="The run's DAG ID.")],
    run_id: Annotated[str, typer.Option(help="Airflow's run ID.")],
    frameworks: Annotated[str, typer.Option(help="Frameworks to train, separated by commas. Default: those of the model.")] = "",
    dataset: Annotated[str, typer.Option(help="The name of a data set, or auto.")] = "auto",
    param: Annotated[
        list[str] | None,
        typer.Option(help="A field of the spec as name=value, such as epochs=2. The value is JSON or text. Can be repeated."),
    ] = None,
) -> None:
    """Write the spec, the conditions and the lineage of a run into its directory."""
    here, declared, chosen = Run(run), find_model(model), parse_fields(param or [])
    data: Content = declared.load(declared.data)(dataset, print)
    wanted = choose_frameworks(declared, frameworks)
    spec = write_conditions(here, data, lambda directory: draw_declared(declared, data, chosen, directory))
    print(f"{data.name}, fingerprint {data.fingerprint[:12]}: {spec.samples} training {declared.sample}s")
    print(f"{spec.epochs} epochs of {spec.steps_per_epoch} steps, batch {spec.batch_size}, threads {spec.threads}, seed {spec.seed}")
    note_lineage(here, dag_id, run_id, wanted, data.fingerprint)


if __name__ == "__main__":
    run_program(main)
