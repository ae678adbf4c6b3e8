import json

from windtunnel.data.datasets import KNOWN, find


def test_equal_trainings_and_a_sabotage_are_told_apart(execute, tmp_path):
    dataset = next(name for name, known in KNOWN.items() if find(known))
    few = ("--seeds", "1", "--runs", "1", "--sabotage", "1", "--samples", "1024", "--epochs", "1")
    done = execute("trainers.parity_accuracy", "--dataset", dataset, *few, "--probes", str(tmp_path / "probes"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "benchmarks/parity.json").read_text())["data"][dataset]
    assert [len(rows) for rows in found.values()] == [1, 1, 1]
    assert found["two orders of sums"][0]["missed"] == found["all frameworks"][0]["missed"] == []
    assert len(found["all frameworks"][0]["limits"]) == 3
    assert found["sabotage"][0]["by"][0] == "logits before the first step"
    assert f"no normalisation │ {dataset}" in " ".join(done.stdout.split())
    names = ["libtorch", "native", "native, 2 threads", "no normalisation", "pytorch", "tensorflow"]
    assert sorted(file.stem for file in (tmp_path / "probes").iterdir()) == [f"{dataset}-1-{name}" for name in names]


def test_an_unknown_kind_is_named(execute, tmp_path):
    flags = [word for flag in ("spec", "data", "conditions", "out") for word in (f"--{flag}", str(tmp_path / flag))]
    done = execute("trainers.sabotaged_trainer", "none", *flags)
    assert done.returncode == 1
    assert done.stderr.startswith("error: sabotage 'none' is unknown: choose no normalisation, ")
