"""Make the trigger form of a declared model: a parameter for each field of its spec, from the spec's JSON schema."""

from typing import Any

from airflow.sdk import Param
from pydantic_core import to_jsonable_python

from dags.steps import LARGEST, RELEASING, TRAINING
from windtunnel.metric import Metric
from windtunnel.model import Model

NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
DATASET = Param(
    "auto",
    title="Data set",
    type="string",
    pattern=NAME,
    section=TRAINING,
    description="The name of a data set. auto: the model chooses.",
)


def whole_number(default: int | None, title: str, description: str, least: int = 1, most: int = LARGEST) -> Param:
    """Return a parameter of a training that is a whole number. It may be left empty if its default is None."""
    kind = "integer" if default is not None else ["null", "integer"]
    return Param(default, description, title=title, type=kind, minimum=least, maximum=most, section=TRAINING)


def spec_params(model: Model) -> dict[str, Param]:
    """Return a parameter for each field of a model's spec that a run may choose.

    A field without a default may be left empty if the model's conditions can fill it in: `samples`, and any field if the model declares a
    function for its conditions.
    """
    schema = model.spec.model_json_schema(by_alias=False)
    params = {}
    for name, field in model.spec.model_fields.items():
        if name in ("model", "dataset"):
            continue
        rules = _simple(schema["properties"][name])
        shown = {"title": field.title or name.replace("_", " ").capitalize(), "section": TRAINING}
        if "$ref" in str(rules):
            rules["$defs"] = schema["$defs"]
        if not field.is_required():
            default = to_jsonable_python(field.get_default(call_default_factory=True))
            params[name] = Param(default, field.description, schema=rules | shown)
        elif name == "samples" or model.conditions:
            params[name] = Param(None, field.description, schema=_optional(rules) | shown)
        else:
            params[name] = Param(description=field.description, schema=rules | shown)
    return params


def margin_param(metric: Metric) -> Param:
    """Return the parameter that says how much worse than the champion a promoted version may be."""
    largest: float = LARGEST
    limits = ""
    if metric.low is not None and metric.high is not None:
        largest = metric.high - metric.low
        limits = f", 0 to {largest:g}"
    text = f"How much worse than the champion a promoted version may be, in the unit of its {metric.name}{limits}."
    title = f"{metric.name.capitalize()} margin"
    return Param(metric.margin, title=title, type="number", minimum=0, maximum=largest, section=RELEASING, description=text)


def _simple(found: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a field with a list of types in place of an alternative to null, and with finite numbers only."""
    rules = {key: value for key, value in found.items() if key not in ("title", "default", "description")}
    others = [option for option in rules.get("anyOf", []) if option != {"type": "null"}]
    if len(others) == 1:
        del rules["anyOf"]
        return _optional(_simple(others[0] | rules))
    if rules.get("type") == "integer" and "exclusiveMaximum" in rules:
        rules["maximum"] = rules.pop("exclusiveMaximum") - 1
    if rules.get("type") in ("integer", "number") and "exclusiveMaximum" not in rules:
        rules["maximum"] = min(rules.get("maximum", LARGEST), LARGEST)  # JSON can write numbers that Python reads as infinite
    return rules


def _optional(rules: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema that also allows null."""
    if not isinstance(rules.get("type"), str):
        return rules if "null" in rules.get("type", ()) else {"anyOf": [rules, {"type": "null"}]}
    if "const" in rules:
        rules = {key: value for key, value in rules.items() if key != "const"} | {"enum": [rules["const"]]}
    choices = {"enum": [*rules["enum"], None]} if "enum" in rules else {}
    return rules | choices | {"type": ["null", rules["type"]]}
