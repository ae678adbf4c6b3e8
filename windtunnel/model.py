"""Models and frameworks as data: what the platform knows about a model is what its package declares.

A package declares a model by an entry point of the group `windtunnel.models`, `NAME = "MODULE:MODEL"`, whose value is a `Model`. It adds a
framework to a model of another package by one of the group `windtunnel.frameworks`, `"MODEL.FRAMEWORK" = "MODULE:FRAMEWORK"`, whose value
is a `Framework`. The command line and Airflow's DAG processor import these modules, so they must not import a framework.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel

from windtunnel.backend import find_backend
from windtunnel.declarations import load, origin, read, resolve
from windtunnel.errors import WindtunnelError
from windtunnel.metric import ACCURACY, Metric
from windtunnel.spec import Training, load_spec

MODELS, FRAMEWORKS = "windtunnel.models", "windtunnel.frameworks"


def python_module(name: str) -> tuple[str, ...]:
    """Return the command that runs a trainer written as a Python module."""
    return (sys.executable, "-m", name)


Codec = Literal["image", "array"]

RESERVED = ("label", "version")
"""Names that golden sets and replies use for other things than inputs and outputs."""

PREDICTED = frozenset({"file", "image", "words"})
"""Names that `windtunnel predict` uses for other things than outputs."""


@dataclass(frozen=True)
class Input:
    """One sample of what a model takes, float32.

    Attributes:
        name: its name in golden sets and in the served signature, such as `image`.
        shape: its shape without the batch dimension, such as (28, 28, 1).
        codec: what clients send. `array`: numbers (.npy, JSON). `image`: pixels 0..255, (height, width, 1) if grey and (height, width, 3)
            if coloured; clients may also send PNG, JPEG or bytes.
        reader: the function that reads a file for `windtunnel predict`, as `MODULE:FUNCTION`. It is imported when it is called. It takes
            the file's path and this declaration, and returns samples, float32 (N, *shape).
        dark_background: whether its images are bright on a dark background, as MNIST's are. Whoever sends a file that is the reverse is
            warned.
    """

    name: str
    shape: tuple[int, ...]
    codec: Codec
    reader: str
    dark_background: bool = False

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise WindtunnelError(
                f"the input {self.name!r} has the wrong shape: found {self.shape}, expected one size or more, each above 0"
            )
        if self.codec == "image" and (len(self.shape) != 3 or self.shape[2] not in (1, 3)):
            expected = "(height, width, 1) or (height, width, 3). Declare it so, or use the codec 'array'"
            raise WindtunnelError(f"the image {self.name!r} has the wrong shape: found {self.shape}, expected {expected}")
        if self.dark_background and self.codec != "image":
            raise WindtunnelError(
                f"the input {self.name!r} has a dark background, but the codec {self.codec!r}, expected 'image'. Remove one"
            )

    @property
    def size(self) -> int:
        """How many numbers a sample has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Output:
    """One of a model's outputs, float32, with a row for each sample.

    Attributes:
        name: its name in golden sets, in the served signature and in replies, such as `logits`.
        shape: the shape of a row, such as (10,). None stands for any size.
    """

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Framework:
    """A program that trains a model, and what becomes of what it exports.

    Attributes:
        name: also the last word of the names of its versions, such as `pytorch` in `lenet5-pytorch`.
        command: the trainer. It keeps the contract of `train_server/README.md`.
        export: the file or directory in a version that the trainer exports. TorchServe serves `model.pt` (TorchScript), TensorFlow
            Serving `saved_model`, the speech server `model.onnx`.
        backend: the backend that serves the export.
        packages: the distributions whose versions manifests and benchmarks record.
        colour, marker: how plots show it, as matplotlib names them.
        default: whether a run trains it unless its parameters choose other frameworks.
    """

    name: str
    command: tuple[str, ...]
    export: str
    backend: str
    packages: tuple[str, ...]
    colour: str
    marker: str
    default: bool = True


@dataclass(frozen=True)
class Example:
    """A file that `windtunnel predict` can read, relative to the project's folder, and the name of the data set that it is from."""

    file: str
    dataset: str


@dataclass(frozen=True)
class Model:
    """What is learned.

    A model without a DAG file of its own, `dags/NAME.py`, gets a DAG whose trigger form has the fields of its spec.

    Attributes:
        name: also the name of its DAG and of its experiment in MLflow.
        title: its name in texts.
        spec: the type of its spec, whose `model` is `name`.
        data: `MODULE:FUNCTION`(name: str, say: Callable[[str], None] = …) -> Content. It finds a data set by name, or chooses one if the
            name is `auto`, and tells `say` which. It is imported when it is called.
        metric: the measure of its versions.
        frameworks: what trains it.
        input: what it takes.
        outputs: what it returns. The label of a sample is the arg-max of its row of the first output.
        registered: the name of its registered models.
        conditions: `MODULE:FUNCTION`(data: Content, chosen: Mapping[str, Any], directory: Path) -> Training. It returns the spec for the
            data and the chosen fields, and writes the files that all frameworks share into `directory`. None: the frameworks share only
            the spec, which has the chosen fields, the data set's name, and all its samples unless fewer are chosen.
        parity: the module that certifies, as `python -m MODULE --run DIR`, that the frameworks of a run trained the same model. It writes
            the certificate with `train_server.certificate`. None: runs have no certificate.
        sample: what a sample is called in texts, in the singular.
        loss: what the training loss is called in texts.
        example: a file to try its versions with.
    """

    name: str
    title: str
    spec: type[Training]
    data: str
    metric: Metric
    frameworks: tuple[Framework, ...]
    input: Input
    outputs: tuple[Output, ...]
    registered: str = "{model}-{framework}"
    conditions: str | None = None
    parity: str | None = None
    sample: str = "sample"
    loss: str = "loss"
    example: Example | None = None

    def __post_init__(self) -> None:
        if not self.outputs:
            raise WindtunnelError(f"{self.name} has no outputs. Declare at least one: its arg-max is the label")
        names = (self.input.name, *(output.name for output in self.outputs))
        if len({*names, *RESERVED}) < len(names) + len(RESERVED):
            found = ", ".join(names)
            raise WindtunnelError(
                f"the input and outputs of {self.name} have the wrong names: found {found}, expected different ones, none of them "
                f"{' or '.join(RESERVED)}. Rename them"
            )
        if used := PREDICTED.intersection(names[1:]):
            raise WindtunnelError(f"{self.name} has an output {min(used)!r}, a word that `windtunnel predict` uses. Rename it")

    @property
    def framework_names(self) -> tuple[str, ...]:
        """The names of all frameworks, in their order."""
        return tuple(framework.name for framework in self.frameworks)

    @property
    def default_frameworks(self) -> tuple[str, ...]:
        """The names of the frameworks that a run trains unless others are chosen."""
        return tuple(framework.name for framework in self.frameworks if framework.default)

    def framework(self, name: str) -> Framework:
        """Return a framework by name.

        Raises:
            WindtunnelError: the model has no such framework, or the framework's declaration is wrong.
        """
        for framework in self.frameworks:
            if framework.name == name:
                return framework
        unknown = WindtunnelError(f"framework {name!r} is unknown: choose from {', '.join(self.framework_names)}")
        raise declarations().problems.get(f"{self.name}.{name}", unknown)

    def load(self, function: str) -> Callable[..., Any]:
        """Import a function that the declaration names as `MODULE:FUNCTION`.

        Raises:
            WindtunnelError: it cannot be imported.
        """
        return resolve(function, self.name)

    def registered_name(self, framework: str) -> str:
        """Return the name of the registered model of a framework's versions."""
        return self.registered.format(model=self.name, framework=framework)


@dataclass(frozen=True)
class Declarations:
    """What the installed packages declare: the models by name, and by the name of its entry point what is wrong with a declaration."""

    models: dict[str, Model]
    problems: dict[str, WindtunnelError]


@cache
def declarations() -> Declarations:
    """Return all declared models, each with the frameworks that other packages add to it, and the declarations that are wrong.

    A wrong declaration does not affect the models and frameworks of other packages.
    """
    found: dict[str, Model] = {}
    problems: dict[str, WindtunnelError] = {}
    read(MODELS, lambda point: _add_model(point, found), problems)
    read(FRAMEWORKS, lambda point: _add_framework(point, found), problems)
    return Declarations(found, problems)


def _add_model(point: EntryPoint, found: dict[str, Model]) -> None:
    declared = load(point, Model)
    if declared.name != point.name:
        raise WindtunnelError(f"{origin(point)} declares the model {declared.name!r}, expected {point.name!r}. Use one name for both")
    if declared.name in found:
        raise WindtunnelError(f"{origin(point)} declares the model {declared.name!r} again. Uninstall one of the two packages")
    _add_checked(point, declared, declared.frameworks, found)


def _add_framework(point: EntryPoint, found: dict[str, Model]) -> None:
    name, _, framework = point.name.partition(".")
    if name not in found:
        raise WindtunnelError(f"{origin(point)} adds a framework to the model {name!r}, expected one of {', '.join(sorted(found))}")
    added = load(point, Framework)
    if added.name != framework:
        raise WindtunnelError(f"{origin(point)} declares the framework {added.name!r}, expected {framework!r}. Use one name for both")
    if added.name in found[name].framework_names:
        raise WindtunnelError(f"{origin(point)} adds the framework {added.name!r}, which {name} has already. Give it another name")
    _add_checked(point, dataclasses.replace(found[name], frameworks=(*found[name].frameworks, added)), (added,), found)


def _add_checked(point: EntryPoint, model: Model, new: tuple[Framework, ...], found: dict[str, Model]) -> None:
    """Add or replace a model if the versions of its new frameworks have a server, and a name that no other framework's have."""
    after = found | {model.name: model}
    names = [each.registered_name(framework) for each in after.values() for framework in each.framework_names]
    for framework in new:
        if names.count(registered := model.registered_name(framework.name)) > 1:
            says = f"{origin(point)} would register its versions as {registered!r}, the name of another framework's"
            raise WindtunnelError(f"{says}. Add it to a model of your own, whose `registered` gives each framework another name")
        find_backend(framework.backend)
    found[model.name] = model


def models() -> dict[str, Model]:
    """Return all declared models by name. See `declarations` for what is wrong with others."""
    return declarations().models


def find_model(name: str) -> Model:
    """Return a declared model.

    Raises:
        WindtunnelError: no installed package declares it, or its declaration is wrong.
    """
    if name in models():
        return models()[name]
    known = ", ".join(sorted(models()))
    unknown = WindtunnelError(f"model {name!r} is unknown: expected one of {known}. Install the package that declares it")
    raise declarations().problems.get(name, unknown)


def find_registered(name: str) -> tuple[Model, Framework] | None:
    """Return the model and the framework of a registered model, such as `lenet5-pytorch`; None if no package declares it."""
    pairs = ((model, framework) for model in models().values() for framework in model.frameworks)
    return next((pair for pair in pairs if pair[0].registered_name(pair[1].name) == name), None)


def metric_of(name: str) -> Metric:
    """Return the metric of a registered model; accuracy if no package declares the model."""
    known = find_registered(name)
    return known[0].metric if known else ACCURACY


def declared(name: str) -> tuple[Model, Framework]:
    """Return the model and the framework of a registered model.

    Raises:
        WindtunnelError: no package declares the model.
    """
    if (known := find_registered(name)) is None:
        raise WindtunnelError(f"{name!r} is not a registered model: no installed package declares it. `windtunnel models` lists them")
    return known


class _Named(BaseModel):
    """The field of a spec that says which model's it is."""

    model: str


def load_any_spec(file: Path) -> Training:
    """Read `spec.json` of any declared model, as its type of spec.

    Raises:
        WindtunnelError: the file is missing, is not JSON, or contains an invalid value or an unknown model.
    """
    return load_spec(file, find_model(load_spec(file, _Named).model).spec)


def _known_framework(name: str) -> str:
    names = dict.fromkeys(name for model in models().values() for name in model.framework_names)
    if name not in names:
        raise ValueError(f"unknown framework, expected one of {', '.join(names)}")
    return name


FrameworkName = Annotated[str, AfterValidator(_known_framework)]
"""The name of a framework of any model, checked by pydantic."""
