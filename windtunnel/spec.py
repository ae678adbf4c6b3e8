"""The spec: all values that decide the result of training."""

import math
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from windtunnel.errors import WindtunnelError


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"must be a finite number, found {value}")
    return value


Positive = Annotated[float, Field(gt=0), AfterValidator(_finite)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Training(BaseModel):
    """The part of the spec that all models share. A model declares a subclass, whose `model` is its name.

    The description of a field is its text in the trigger form of a model without a DAG file of its own.
    `samples` is the number of training samples used.

    The default is one thread: a step takes one to three milliseconds, and threads that synchronize that often are slower than one
    thread as soon as another program, such as Airflow, uses the processor too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    dataset: str
    samples: Annotated[int, Field(gt=0, description="Number of training samples. Empty: all.")]
    epochs: Annotated[int, Field(gt=0, description="Passes through the training samples.")] = 5
    batch_size: Annotated[int, Field(gt=0, description="Samples per training step.")] = 64
    learning_rate: Annotated[Positive, Field(description="The learning rate.")] = 0.01
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Seed of everything that is drawn at random.")] = 1
    threads: Annotated[int, Field(gt=0, description="Threads of each trainer. More help only on idle cores.")] = 1

    @model_validator(mode="after")
    def _fills_a_batch(self) -> Self:
        if self.samples < self.batch_size:
            raise ValueError(f"samples is {self.samples}, less than one batch of {self.batch_size}: use more, or a smaller batch_size")
        return self

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The spec as numbers and text, for tables that compare runs."""
        return self.model_dump()

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch. An incomplete last batch is left out."""
        return self.samples // self.batch_size

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch


_Kind = TypeVar("_Kind", bound=BaseModel)


def load_spec(file: Path, kind: type[_Kind]) -> _Kind:
    """Read a `spec.json` as the type of spec that its model declares.

    Raises:
        WindtunnelError: the file is missing, is not JSON, or contains an invalid value.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except OSError as error:
        raise WindtunnelError(f"spec {file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise WindtunnelError(f"spec {file}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """Format pydantic's first error as one line: the field, what is wrong, the value found."""
    problem = error.errors()[0]
    field = ".".join(map(str, problem["loc"]))
    whole = isinstance(problem["input"], dict) or problem["type"] == "json_invalid"  # the content of a file, and perhaps of a wrong one
    found = "" if whole else f" (found {problem['input']!r})"
    unknown = problem["type"] == "extra_forbidden"
    message = ("unknown name, correct or remove it" if unknown else problem["msg"].removeprefix("Value error, ")) + found
    return f"{field}: {message}" if field else message
