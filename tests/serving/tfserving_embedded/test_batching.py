"""Micro-batches: what is computed together, what apart, and what is turned away."""

import asyncio
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.serving.tfserving_embedded.embedded_server import EmbeddedServer, config_text, messages_alone
from tests.waiting import PATIENCE

with messages_alone():
    from tensorflow.core.protobuf import meta_graph_pb2

    from serving.tfserving_embedded import metrics
    from serving.tfserving_embedded.batching import Batcher
    from serving.tfserving_embedded.batching_parameters import BatchingParameters
    from serving.tfserving_embedded.config_files import read_batching_parameters
    from serving.tfserving_embedded.runtime.lite import FILE, QUICK_RUNS, QUICK_SECONDS, LiteModel, Pace
    from serving.tfserving_embedded.runtime.model import Model
    from serving.tfserving_embedded.serving_error import ServingError, invalid_argument


class Held(Model):
    """Adds a row's numbers up, and remembers what it computed. The first run ends when `go` is set; a negative number is refused."""

    def __init__(self, rows: int = -1) -> None:
        super().__init__()
        self.signatures = {"s": meta_graph_pb2.SignatureDef()}
        self.signatures["s"].inputs["x"].tensor_shape.dim.add(size=rows)
        self.runs: list[np.ndarray] = []
        self.began, self.go = threading.Event(), threading.Event()

    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        self.runs.append(inputs["x"])
        self.began.set()
        assert self.go.wait(PATIENCE)
        if np.any(inputs["x"] < 0):
            raise invalid_argument("negative")
        sums = inputs["x"].sum(axis=tuple(range(1, inputs["x"].ndim)))
        return [sums.sum() if output == "total" else sums for output in outputs]

    def _free(self) -> None:
        self.runs.clear()


def batches(
    parameters: BatchingParameters | None,
    *requests: np.ndarray,
    outputs: tuple[str, ...] = ("sum",),
    per_model: bool = False,
    own: BatchingParameters | None = None,
    rows: int = -1,
) -> tuple[list[list[float] | str], list[tuple[int, ...]]]:
    """What is answered to requests that come while another is computed, and the shapes of what was computed after that."""

    async def run() -> tuple[list[list[float] | str], list[tuple[int, ...]]]:
        model, batcher = Held(rows), Batcher(parameters, per_model)
        model.batching = own
        first = asyncio.ensure_future(batcher.run(model, "s", {"x": np.zeros((1, 2))}, ["first"]))
        await asyncio.to_thread(model.began.wait, PATIENCE)
        others = [asyncio.ensure_future(batcher.run(model, "s", {"x": request}, outputs)) for request in requests]
        await asyncio.sleep(0.05)
        model.go.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        batcher.close()
        answers = [str(r) if isinstance(r, BaseException) else r[0].tolist() for r in results[1:]]
        return answers, [array.shape for array in model.runs[1:]]

    return asyncio.run(run())


def one_thread(**fields: object) -> BatchingParameters:
    return BatchingParameters(**{"num_batch_threads": 1} | fields)  # type: ignore[arg-type]


SPLIT = "enable_large_batch_splitting { value: true }"
ONE, TWO = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])


def test_what_waits_is_computed_together() -> None:
    assert batches(one_thread(), ONE, TWO, ONE) == ([[3.0], [7.0, 11.0], [3.0]], [(4, 2)])


def test_without_batching_each_request_is_computed_alone() -> None:
    answers, shapes = batches(None, ONE, TWO, ONE)
    assert answers == [[3.0], [7.0, 11.0], [3.0]]
    assert sorted(shapes) == [(1, 2), (1, 2), (2, 2)]


def test_a_bad_request_fails_alone() -> None:
    assert batches(one_thread(), ONE, -ONE, TWO) == ([[3.0], "negative", [7.0, 11.0]], [(4, 2), (1, 2), (1, 2), (2, 2)])


def test_nan_stays_in_its_row() -> None:
    answers, shapes = batches(one_thread(), ONE, ONE * np.nan)
    np.testing.assert_equal(answers, [[3.0], [np.nan]])
    assert shapes == [(2, 2)]


def test_what_differs_in_shape_type_or_rank_is_computed_apart() -> None:
    answers, shapes = batches(one_thread(), ONE, np.ones((1, 3)), ONE.astype(np.float32), np.array(5.0), ONE)
    assert answers == [[3.0], [3.0], [3.0], 5.0, [3.0]]
    assert sorted(shapes) == [(), (1, 2), (1, 3), (2, 2)]


def test_outputs_that_are_no_rows_are_computed_apart() -> None:
    assert batches(one_thread(), ONE, TWO, outputs=("total",)) == ([3.0, 18.0], [(3, 2), (1, 2), (2, 2)])


def test_a_model_that_declares_how_many_rows_it_takes_gets_no_others() -> None:
    assert batches(one_thread(allowed_batch_sizes=(4, 1000)), ONE, ONE, rows=1) == ([[3.0], [3.0]], [(1, 2), (1, 2)])


def test_batches_are_not_larger_than_allowed_but_requests_may_be() -> None:
    large = np.ones((5, 2))
    answers, shapes = batches(one_thread(max_batch_size=3), ONE, TWO, large, ONE)
    assert answers == [[3.0], [7.0, 11.0], [2.0] * 5, [3.0]]
    assert shapes == [(3, 2), (5, 2), (1, 2)]


def test_large_requests_are_split_and_their_parts_share_batches() -> None:
    splitting = one_thread(max_batch_size=100, enable_large_batch_splitting=True, max_execution_batch_size=3)
    large = np.arange(14.0).reshape(7, 2)
    answers, shapes = batches(splitting, large, TWO)
    assert answers == [large.sum(axis=1).tolist(), [7.0, 11.0]]
    assert shapes == [(3, 2), (3, 2), (3, 2)]
    assert batches(splitting, -large)[0] == ["negative"]
    assert batches(splitting, large, outputs=("total",))[0] == ["Batched output tensor's 0th dimension does not equal the batch size"]
    assert batches(one_thread(max_batch_size=3, enable_large_batch_splitting=True), large)[1] == [(3, 2), (3, 2), (1, 2)]
    assert batches(one_thread(max_batch_size=8, max_execution_batch_size=3), large)[1] == [(7, 2)]


def test_parts_are_filled_up_to_an_allowed_size() -> None:
    splitting = one_thread(max_batch_size=8, enable_large_batch_splitting=True, max_execution_batch_size=4, allowed_batch_sizes=(2, 4))
    assert batches(splitting, np.ones((5, 2))) == ([[2.0] * 5], [(4, 2), (2, 2)])


def test_a_model_has_parameters_of_its_own() -> None:
    assert batches(one_thread(max_batch_size=1), ONE, TWO, ONE, per_model=True, own=BatchingParameters())[1] == [(4, 2)]
    assert batches(one_thread(), ONE, TWO, ONE, per_model=True)[1] == [(1, 2), (2, 2), (1, 2)]
    assert batches(one_thread(), ONE, TWO, ONE, own=BatchingParameters(max_batch_size=1))[1] == [(4, 2)]


def test_batches_are_filled_up_to_an_allowed_size() -> None:
    assert batches(one_thread(max_batch_size=8, allowed_batch_sizes=(4, 8)), ONE, TWO) == ([[3.0], [7.0, 11.0]], [(4, 2)])


SAMPLES = {
    "queued": ("queuing_latency_count", {"thread_pool_name": ""}),
    "microseconds": ("queuing_latency_sum", {"thread_pool_name": ""}),
    "inputs": ("input_batch_size_count", {}),
    "rows": ("input_batch_size_sum", {}),
    "batches": ("processed_batch_size_count", {}),
    "computed": ("processed_batch_size_sum", {}),
    "of four": ("padding_size_count", {"execution_batch_size": "4"}),
    "padding": ("padding_size_sum", {"execution_batch_size": "4"}),
    "runs": ("wrapped_run_count_total", {}),
}


def growth(parameters: BatchingParameters | None, *requests: np.ndarray) -> dict[str, float]:
    """By how much the metrics of batches grow while these requests are computed after one of one row."""

    def values() -> dict[str, float]:
        return {
            name: metrics.registry.get_sample_value(f":tensorflow:serving:batching_session:{sample}", labels) or 0
            for name, (sample, labels) in SAMPLES.items()
        }

    before = values()
    batches(parameters, *requests)
    return {name: value - before[name] for name, value in values().items()}


def test_batches_and_what_waited_for_them_are_counted() -> None:
    grown = growth(one_thread(max_batch_size=8, allowed_batch_sizes=(4, 8)), ONE, TWO)
    assert grown.pop("microseconds") > 80_000, "two waited for 50 ms"
    expected = {"queued": 3, "inputs": 3, "rows": 4, "batches": 2, "computed": 8, "of four": 2, "padding": 4, "runs": 2}
    assert grown == expected


def test_a_request_that_is_larger_than_a_batch_is_none() -> None:
    grown = growth(one_thread(max_batch_size=2), np.ones((4, 2)))
    assert (grown["rows"], grown["batches"], grown["of four"]) == (5, 1, 0)


def test_without_batching_no_batch_is_counted() -> None:
    assert set(growth(None, ONE, TWO).values()) == {0}


def test_inputs_of_different_lengths_are_filled_up_with_zeros() -> None:
    answers, shapes = batches(one_thread(pad_variable_length_inputs=True), ONE, np.ones((2, 4)))
    assert (answers, shapes) == ([[3.0], [4.0, 4.0]], [(3, 4)])


def test_a_full_queue_turns_requests_away() -> None:
    answers, _ = batches(one_thread(max_batch_size=1, max_enqueued_batches=2), ONE, ONE, ONE)
    assert answers == [[3.0], [3.0], "The batch scheduling queue to which this task was submitted is full; try again later"]


def test_requests_wait_for_their_batch_as_long_as_they_may() -> None:
    async def run(seconds: float, requests: int) -> tuple[float, int]:
        model, batcher = Held(), Batcher(one_thread(max_batch_size=2, batch_timeout_micros=int(seconds * 1e6)))
        model.go.set()
        start = time.perf_counter()
        await asyncio.gather(*(batcher.run(model, "s", {"x": ONE}, ["sum"]) for _ in range(requests)))
        batcher.close()
        return time.perf_counter() - start, len(model.runs)

    seconds, runs = asyncio.run(run(0.2, 1))
    assert (seconds >= 0.2, runs) == (True, 1)
    seconds, runs = asyncio.run(run(PATIENCE, 2))  # a full batch does not wait
    assert (seconds < PATIENCE, runs) == (True, 1)


class Quick(Held):
    """Says of a single row that it is computed quickly, and remembers on which threads it was."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def quick(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> bool:
        return len(inputs["x"]) == 1

    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        self.threads.append(threading.current_thread())
        return super()._run(signature_name, inputs, outputs)


@pytest.mark.parametrize("parameters", [one_thread(), None])
def test_what_is_quick_is_computed_on_the_loop_unless_a_thread_is_at_work(parameters: BatchingParameters | None) -> None:
    def counted() -> float:
        return metrics.registry.get_sample_value(":tensorflow:serving:batching_session:processed_batch_size_count") or 0

    async def run() -> None:
        before = counted()
        model, batcher, here = Quick(), Batcher(parameters), threading.current_thread()
        slow = asyncio.ensure_future(batcher.run(model, "s", {"x": TWO}, ["sum"]))
        await asyncio.to_thread(model.began.wait, PATIENCE)
        waiting = asyncio.ensure_future(batcher.run(model, "s", {"x": ONE}, ["sum"]))
        await asyncio.sleep(0.05)  # the loop runs: it computes nothing that could wait for the thread
        model.go.set()
        assert [outputs[0].tolist() for outputs in await asyncio.gather(slow, waiting)] == [[7.0, 11.0], [3.0]]
        assert here not in model.threads
        assert [output.tolist() for output in await batcher.run(model, "s", {"x": ONE}, ["sum"])] == [[3.0]]
        assert model.threads[2:] == [here]
        assert counted() - before == (3 if parameters else 0), "a quick request is a batch of its own"
        with pytest.raises(ServingError, match="negative"):
            await batcher.run(model, "s", {"x": -ONE}, ["sum"])
        batcher.close()

    asyncio.run(run())


def test_quick_is_what_has_been_quick_often_enough_and_was_as_large() -> None:
    pace = Pace()
    for _ in range(QUICK_RUNS):
        assert not pace.quick(10)
        pace.record(10, QUICK_SECONDS / 2)
    assert (pace.quick(10), pace.quick(11)) == (True, False)
    pace.record(11, QUICK_SECONDS / 2)
    assert pace.quick(11)
    pace.record(5000, QUICK_SECONDS * 2)
    assert not pace.quick(10)


def test_litert_proves_how_quick_it_is(models: Path) -> None:
    model = LiteModel(models / "lite" / "1" / FILE, 1)
    small, large = {"x": np.ones((1, 2), np.float32)}, {"x": np.ones((1000, 2), np.float32)}
    assert not model.quick("serving_default", small)
    for _ in range(100 * QUICK_RUNS):  # what an interruption made slow has to be proved again
        model.run("serving_default", small, ["y"])
        if model.quick("serving_default", small):
            break
    assert (model.quick("serving_default", small), model.quick("serving_default", large)) == (True, False)
    with pytest.raises(ServingError, match="Expects x to be DT_FLOAT"):
        model.run("serving_default", {"x": np.ones((1, 2))}, ["y"])


def test_closing_waits_for_what_runs_and_refuses_what_comes_later() -> None:
    model = Held()
    with ThreadPoolExecutor(2) as threads:
        run = threads.submit(model.run, "s", {"x": ONE}, ["sum"])
        assert model.began.wait(PATIENCE)
        close = threads.submit(model.close)
        time.sleep(0.05)
        assert (close.done(), len(model.runs)) == (False, 1)
        model.go.set()
        assert run.result(PATIENCE)[0].tolist() == [3.0]
        close.result(PATIENCE)
    with pytest.raises(ServingError, match="unloaded"):
        model.run("s", {"x": ONE}, ["sum"])


def test_parameters_are_read_as_the_real_server_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    numbers = {"max_batch_size": 128, "batch_timeout_micros": 0, "max_enqueued_batches": 1000, "num_batch_threads": 8}
    text = " ".join(f"{name} {{ value: {number} }}" for name, number in numbers.items())
    file.write_text(
        f'{text} thread_pool_name {{ value: "pool" }} allowed_batch_sizes: 32 allowed_batch_sizes: 128 pad_variable_length_inputs: true'
    )
    assert read_batching_parameters(file) == BatchingParameters(128, 0, 1000, 8, (32, 128), True)
    file.write_text(f"{SPLIT} max_execution_batch_size {{ value: 64 }} allowed_batch_sizes: 64")
    parameters = read_batching_parameters(file)
    assert (parameters.enable_large_batch_splitting, parameters.batch_size, parameters.max_batch_size) == (True, 64, 1000)
    file.write_text("")
    assert read_batching_parameters(file) == BatchingParameters()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("max_batch_size: 7", "Error parsing text-format tensorflow.serving.BatchingParameters: "),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "the last must be max_batch_size"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 8", "allowed_batch_sizes must increase"),
        ("max_execution_batch_size { value: 0 }", "max_execution_batch_size must be positive; was 0"),
        (
            "max_execution_batch_size { value: 1001 } enable_large_batch_splitting { value: true }",
            "more than max_batch_size, 1000; was 1001",
        ),
        (
            "max_execution_batch_size { value: 8 } enable_large_batch_splitting { value: true } allowed_batch_sizes: 1000",
            "the last must be max_execution_batch_size; was [1000]",
        ),
    ],
)
def test_wrong_parameters(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "batching").write_text(text)
    with pytest.raises(ServingError) as caught:
        read_batching_parameters(tmp_path / "batching")
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert error in caught.value.message


def test_the_real_runtime_computes_requests_together(models: Path, tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text(config_text(batch=f'base_path: "{models / "batch"}"'))
    (tmp_path / "batching").write_text(
        "num_batch_threads { value: 1 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 8 }"
    )
    flags = ("--enable_batching", "--batching_parameters_file=batching", "--model_config_file=models.config")
    with EmbeddedServer(tmp_path, *flags) as server, ThreadPoolExecutor(12) as clients:
        values = [1.0, 2.0, 5000.0, 3.0, 4.0, 5.0] * 2  # 5000 is refused by the graph
        futures = [clients.submit(server.predict, "batch", {"x": np.full((1, 2), value, np.float32)}) for value in values]
        for value, future in zip(values, futures, strict=True):
            if value == 5000:
                assert "a row is too large" in str(future.exception())
            else:
                assert future.result()[1]["sum"].tolist() == [2 * value]
        later = [clients.submit(server.predict, "batch", {"x": np.ones((1, 2), np.float32)}) for _ in range(12)]
        assert max(int(future.result()[1]["batch"][0]) for future in later) > 1
        _, outputs = server.predict("batch", {"x": np.ones((11, 2), np.float32)})
        assert (outputs["sum"].tolist(), outputs["batch"].tolist()) == ([2.0] * 11, [8] * 8 + [3] * 3)


def test_the_real_runtime_takes_a_models_own_parameters(models: Path, tmp_path: Path) -> None:
    for name, text in (("split", f"{SPLIT} max_execution_batch_size {{ value: 8 }}"), ("none", ""), ("wrong", "max_batch_size: 7")):
        shutil.copytree(models / "batch" / "1", tmp_path / name / "1")
        (tmp_path / name / "1" / "batching_params.pbtxt").write_text(text)
    (tmp_path / "models.config").write_text(config_text(**{name: f'base_path: "{tmp_path / name}"' for name in ("split", "none", "wrong")}))
    flags = ("--enable_batching", "--enable_per_model_batching_parameters", "--wait_for_models=false", "--max_num_load_retries=0")
    with EmbeddedServer(tmp_path, "--model_config_file=models.config", *flags) as server:
        for name, sizes in (("split", [8] * 8 + [3] * 3), ("none", [11] * 11)):
            assert server.predict(name, {"x": np.ones((11, 2), np.float32)})[1]["batch"].tolist() == sizes
        assert server.states("wrong") == {1: "END"}
        assert "Error parsing text-format tensorflow.serving.BatchingParameters: " in server.log
