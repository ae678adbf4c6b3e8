"""What a person does with a registered model, as the task of the DAG `release`.

python -m serving.release.by_hand promote --run DIR --run-id ID --model lenet5-pytorch --version 3 --who NAME --why "the new data"
python -m serving.release.by_hand "roll back" --run DIR --run-id ID --model lenet5-pytorch --who NAME --why "wrong sevens" [--version 2]
python -m serving.release.by_hand reconcile --run DIR --run-id ID --who NAME --why "torchserve was replaced"
"""

from pathlib import Path
from typing import Annotated

import typer

from serving.release.actions import ACTIONS, PROMOTE, RECONCILE, SHORTEST_REASON
from serving.release.release import Cause, Release, reconcile_all
from windtunnel.aliases import Aliases
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_json
from windtunnel.model import declared, models
from windtunnel.platform.program import run_program
from windtunnel.run import Run
from windtunnel.settings import Settings, load_settings


def main(
    action: Annotated[str, typer.Argument(help=f"One of: {', '.join(ACTIONS)}.")],
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    run_id: Annotated[str, typer.Option(help="The run's id in Airflow, for the audit log.")],
    who: Annotated[str, typer.Option(help="The person, for the audit log.")],
    why: Annotated[str, typer.Option(help="The reason, for the audit log.")],
    model: Annotated[str, typer.Option(help="The registered model, such as lenet5-pytorch; none for reconcile.")] = "",
    version: Annotated[str, typer.Option(help="The version to promote, or that a rollback has to lead to; none for reconcile.")] = "",
) -> None:
    """Promote a version, return to the previous one, or make every server serve what the registry says."""
    if action not in ACTIONS:
        raise WindtunnelError(f"the action is {action!r}: expected one of {', '.join(ACTIONS)}")
    if len(why.strip()) < SHORTEST_REASON:
        raise WindtunnelError(f"the reason is {why!r}: expected {SHORTEST_REASON} characters or more. Say why, for the audit log")
    settings, cause = load_settings(), Cause(who, why.strip(), Run(run).name, run_id)
    if action == RECONCILE:
        _only(action, model=model, version=version)
        _reconcile(settings, who, why.strip())
        return
    if not model:
        names = ", ".join(each.registered_name(name) for each in models().values() for name in each.framework_names)
        raise WindtunnelError(f"the model is missing: {action} needs one of {names}")
    framework = declared(model)[1].name
    if action == PROMOTE:
        number = _number(settings, model, version)
        release = Release(settings, model)
        release.promote(number, cause)
    elif version:
        number = _number(settings, model, version)
        release = Release(settings, model)
        if not release.return_to(number, cause):
            print(f"users get {model} version {number} from {release.server.name} already: nothing was changed")
            return
    else:
        Aliases(settings).of(model)  # an error about a model without versions, before the server is asked
        release = Release(settings, model)
        number = release.rollback(cause)
    known = Aliases(settings).version(model, number)
    told = {"name": model, "version": number, "server": release.server.name, known.metric.name: known.as_dict()[known.metric.name]}
    write_json(Run(run).released(framework), told)
    print(f"users get {model} version {number} from {release.server.name}")


def _only(action: str, **others: str) -> None:
    """Check that nothing was given that the action would ignore."""
    for name, given in others.items():
        if given:
            raise WindtunnelError(f"the {name} is {given!r}, but {action} takes none. Leave it empty, or choose another action")


def _number(settings: Settings, model: str, version: str) -> int:
    """Return the number of a version, which the registry has."""
    aliases = Aliases(settings)
    newest = [str(known.version) for known in aliases.versions(model, 5)]
    if not version:
        raise WindtunnelError(f"the version is missing: promote needs one. The newest of {model} are {', '.join(newest)}")
    if not (version.isascii() and version.isdecimal()):
        raise WindtunnelError(f"the version is {version!r}: expected a whole number, such as {newest[0]}")
    return aliases.version(model, int(version)).version


def _reconcile(settings: Settings, who: str, why: str) -> None:
    print(f"{who} reconciles: {why}", flush=True)
    changes, problems = reconcile_all(settings, lambda line: print(line, flush=True))
    if problems:
        raise WindtunnelError("; ".join(problems))
    print(f"{len(changes)} changes" if changes else "every server serves what the registry says")


if __name__ == "__main__":
    run_program(main)
