"""The software bills of materials of the built images."""

import json
import subprocess
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.containers.test_compose_file import SERVICES
from windtunnel.settings import ROOT


def test_every_image_has_a_valid_bill_of_what_it_contains(engine, images):
    command = [sys.executable, "scripts/sbom.py"]
    printed = subprocess.run(command, cwd=ROOT, env=engine.environment | images, capture_output=True, text=True, check=True).stdout.split()
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert printed == ["build/sbom/process.cdx.json", *(f"build/sbom/{target}.cdx.json" for target in sorted(targets))]
    named = {}
    for target in targets:
        text = (ROOT / "build" / "sbom" / f"{target}.cdx.json").read_text()
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        bill = json.loads(text)
        about = bill["metadata"]["component"]
        assert (about["type"], about["name"]) == ("container", f"{images['WINDTUNNEL_IMAGES']}/{target}")
        named[target] = {each["name"] for each in bill["components"]}
        assert {"tini", "libc6", "cpython"} <= named[target]
    assert {target for target in targets if "libtorch" in named[target]} == {"serving", "torchserve", "train_server"}
    assert {target for target in targets if {"openjdk", "model-server.jar"} & named[target]} == {"torchserve"}
    assert {target for target in targets if "apache-airflow" in named[target]} == {"airflow"}
    assert "pydantic" in named["docker-proxy"]
