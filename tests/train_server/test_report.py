import pytest

from tests.versions import make_version
from train_server.report import explain, summarise, tabulate
from windtunnel.files import write_json
from windtunnel.run import Run
from windtunnel.spec import Spec
from windtunnel.tables import render

SPEC = Spec(dataset="mnist", mean=0.1307, std=0.3081, samples=60_000)


@pytest.fixture
def run(tmp_path):
    """A run of two frameworks, trained, registered and certified."""
    here = Run(tmp_path / "lenet5" / "manual__1")
    here.directory.mkdir(parents=True)
    here.spec_file.write_text(SPEC.model_dump_json())
    frameworks = ["libtorch", "pytorch"]
    lineage = {"dag_id": "lenet5", "run_id": "manual__1", "git_commit": "c0ffee", "mlflow_run": "parent", "frameworks": frameworks}
    write_json(here.lineage_file, lineage)
    for version, framework in enumerate(frameworks, start=3):
        make_version(here.version(framework), framework, SPEC, accuracy=0.9906)
        write_json(here.registered(framework), {"name": f"lenet5-{framework}", "version": version})
        write_json(here.gate(framework), {"promote": False, "reason": "it is worse"})
    write_json(here.certificate, {"passed": True, "checks": []})
    return here


def test_a_whole_run_lacks_nothing(run):
    result = summarise(run)
    assert result["missing"] == []
    assert result["parity"] == "passed"
    assert result["frameworks"]["pytorch"]["version"] == 4
    assert result["frameworks"]["pytorch"]["accuracy"] == 0.9906


def test_the_table_shows_each_version(run):
    text = render(tabulate(summarise(run)))
    assert "lenet5 on mnist: 60,000 images, 5 epochs, batch 64, threads 1" in text
    row = next(line for line in text.splitlines() if "lenet5-libtorch" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["lenet5-libtorch", "3", "99.06%", "0.0100", "35.0 s", "8,571", "passed", "challenger"]


def test_what_is_missing_is_named(run):
    run.registered("pytorch").unlink()
    run.certificate.unlink()
    assert summarise(run)["missing"] == ["a registered version of pytorch", "a parity certificate that passed (it is missing)"]


def test_a_release_that_did_not_come_to_its_gate_is_missing(run):
    run.gate("pytorch").unlink()
    assert summarise(run)["missing"] == ["a release of pytorch"]


def test_a_failed_certificate_is_missing_its_pass(run):
    write_json(run.certificate, {"passed": False, "checks": []})
    assert summarise(run)["missing"] == ["a parity certificate that passed (it failed)"]


def test_a_champion_is_shown_with_how_to_ask_it_and_a_challenger_with_why(run):
    write_json(run.released("libtorch"), {"server": "torchserve", "example": "curl …"})
    result = summarise(run)
    assert [row["release"] for row in result["frameworks"].values()] == ["champion on torchserve", "challenger"]
    assert explain(result, "windtunnel").splitlines() == [
        "ask lenet5-libtorch:",
        "  windtunnel predict lenet5-libtorch digit.png",
        "  curl …",
        "lenet5-pytorch version 4 stays challenger: it is worse",
    ]
