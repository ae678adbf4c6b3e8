"""Files become samples."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from serving.models_api.ask import read_file
from tests.serving.models_api import slow_reader
from train_server.lenet5.model import LENET5
from windtunnel.settings import ROOT

DIGIT = (ROOT / "img" / "digit.png").read_bytes()


def test_one_file_is_read_at_a_time_and_its_first_sample_returned():
    model = replace(LENET5, input=replace(LENET5.input, reader=f"{slow_reader.__name__}:read"))
    with ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(lambda _: read_file(model, "image/png", DIGIT), range(8)))
    assert slow_reader.at_a_time == [1] * 8
    assert {sample.shape for sample in samples} == {(1, *LENET5.input.shape)}
