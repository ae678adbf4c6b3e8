"""Train a model in one framework without the platform: write a version into a directory and register nothing.

python -m train_server.standalone --model lenet5 --framework pytorch --param samples=10000 --out DIR
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from train_server.conditions import draw_declared, parse_fields, write_conditions
from train_server.train import run_trainer
from windtunnel.data.datasets import Content
from windtunnel.model import Framework, Model, find_model
from windtunnel.platform.program import run_program
from windtunnel.run import Run


def train_alone(model: Model, framework: Framework, data: Content, chosen: Mapping[str, Any], out: Path) -> None:
    """Make the conditions of a run and train one framework of it, without output.

    Args:
        model: the model.
        framework: one of its frameworks, or a variation of one.
        data: the data.
        chosen: fields of the spec that differ from the defaults.
        out: the version's directory.

    Raises:
        WindtunnelError: the spec is invalid, `out` exists, or the training failed.
    """
    with tempfile.TemporaryDirectory() as place:
        run = Run(Path(place))
        write_conditions(run, data, lambda directory: draw_declared(model, data, chosen, directory))
        run_trainer(framework, run.spec_file, data, run.conditions, out, say=lambda line: None)


def main(
    model: Annotated[str, typer.Option(help="The model to train.")],
    framework: Annotated[str, typer.Option(help="The framework to train.")],
    out: Annotated[Path, typer.Option(help="The version's directory; must not exist.")],
    dataset: Annotated[str, typer.Option(help="The name of a data set, or auto.")] = "auto",
    param: Annotated[
        list[str] | None,
        typer.Option(help="A field of the spec as name=value, such as epochs=1. The value is JSON or text. Can be repeated."),
    ] = None,
) -> None:
    """Train a model in one framework without the platform."""
    declared = find_model(model)
    data: Content = declared.load(declared.data)(dataset, print)
    train_alone(declared, declared.framework(framework), data, parse_fields(param or []), out)
    print(out)


if __name__ == "__main__":
    run_program(main)
