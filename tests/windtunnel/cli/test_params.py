import pytest

from windtunnel.cli.params import parse_params
from windtunnel.errors import WindtunnelError

SCHEMAS = {
    "frameworks": {"type": "array", "items": {"type": "string"}},
    "dataset": {"type": "string"},
    "samples": {"type": ["null", "integer"]},
    "rate": {"type": "number"},
    "check": {"type": "boolean"},
    "anything": {},
}


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ('frameworks=["pytorch"]', ["pytorch"]),
        ("frameworks=pytorch, libtorch", ["pytorch", "libtorch"]),
        ("frameworks=pytorch", ["pytorch"]),
        ("frameworks=", []),
        ("dataset=mnist", "mnist"),
        ("dataset=7", "7"),
        ("dataset=a=b", "a=b"),
        ("samples=null", None),
        ("samples=600", 600),
        ("rate=1e-3", 1e-3),
        ("rate=fast", "fast"),  # for Airflow to refuse: it knows what else is wrong
        ("check=true", True),
        ("anything={}", {}),
        ("anything=word", "word"),
    ],
)
def test_a_value_is_what_the_schema_wants(given, value):
    assert parse_params([given], SCHEMAS) == {given.partition("=")[0]: value}


def test_the_last_of_a_name_counts():
    assert parse_params(["rate=1", "check=false", "rate=2"], SCHEMAS) == {"rate": 2, "check": False}


@pytest.mark.parametrize(("given", "message"), [("rate", "found no '='"), ("speed=1", "there is no parameter 'speed', there are any")])
def test_what_is_no_parameter_is_named(given, message):
    with pytest.raises(WindtunnelError, match=message):
        parse_params([given], SCHEMAS)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "[1, NaN]", '{"a": -1e999}'])
@pytest.mark.parametrize("name", ["rate", "samples", "anything", "check"])
def test_a_number_that_is_not_finite_is_named(name, value):
    with pytest.raises(WindtunnelError) as caught:
        parse_params([f"{name}={value}"], SCHEMAS)
    assert str(caught.value) == f"--param {name}={value}: found an infinite number or NaN, expected a finite number, such as 0.01"


def test_such_a_word_is_text_where_text_is_wanted():
    assert parse_params(["dataset=NaN", "frameworks=Infinity"], SCHEMAS) == {"dataset": "NaN", "frameworks": ["Infinity"]}


def test_bytes_that_are_no_text_are_named():
    with pytest.raises(WindtunnelError, match=r"--param 'dataset=\\udcff': found bytes that are not UTF-8, expected text"):
        parse_params(["dataset=\udcff"], SCHEMAS)


def test_brackets_without_end_are_text():
    assert parse_params(["anything=" + "[" * 100_000], SCHEMAS) == {"anything": "[" * 100_000}
