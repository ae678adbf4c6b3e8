import asyncio
import re
from time import sleep

import pytest

from serving.tfserving_embedded import metrics
from serving.tfserving_embedded.serving_error import invalid_argument


def test_requests_are_counted_by_status_and_timed_where_answered():
    with metrics.request("counted", "predict", "REST"):
        pass
    with pytest.raises(Exception, match="no"), metrics.request("counted", "predict", "REST"):
        raise invalid_argument("no")
    with pytest.raises(ZeroDivisionError), metrics.request("counted", "predict", "REST"):
        _ = 1 / 0
    with pytest.raises(asyncio.CancelledError), metrics.request("counted", "predict", "REST"):
        raise asyncio.CancelledError
    page = metrics.page().decode()
    for status in ("OK", "INVALID_ARGUMENT", "INTERNAL", "CANCELLED"):
        assert f':tensorflow:serving:request_count{{model_name="counted",status="{status}"}} 1.0\n' in page
    assert ':tensorflow:serving:request_latency_count{API="predict",entrypoint="REST",model_name="counted"} 1.0\n' in page


def test_what_is_computed_is_timed_where_answered():
    with metrics.runtime("computed", "Predict"):
        pass
    with pytest.raises(ZeroDivisionError), metrics.runtime("computed", "Predict"):
        _ = 1 / 0
    name = ":tensorflow:serving:runtime_latency_count"
    assert f'{name}{{API="Predict",model_name="computed",runtime="TF1"}} 1.0\n' in metrics.page().decode()


def test_runs_of_graphs_are_counted_and_timed():
    runs, time = metrics.total("/tensorflow/core/graph_runs"), metrics.total("/tensorflow/core/graph_run_time_usecs")
    with metrics.graph_run():
        sleep(0.001)
    with pytest.raises(ZeroDivisionError), metrics.graph_run():
        _ = 1 / 0
    assert metrics.total("/tensorflow/core/graph_runs") == runs + 1
    assert metrics.total("/tensorflow/core/graph_run_time_usecs") >= time + 1000
    assert metrics.total("/tensorflow/core/none") == 0
    assert f":tensorflow:core:graph_runs {runs + 1}.0\n" in metrics.page().decode()


def test_the_page_has_tensorflow_servings_names_and_types():
    page = metrics.page().decode()
    assert re.findall(r"^# TYPE (\S+ \S+)$", page, re.MULTILINE) == [
        ":tensorflow:serving:request_count counter",
        ":tensorflow:serving:request_latency histogram",
        ":tensorflow:serving:runtime_latency histogram",
        ":tensorflow:core:graph_runs counter",
        ":tensorflow:core:graph_run_time_usecs counter",
        ":tensorflow:serving:batching_session:queuing_latency histogram",
        ":tensorflow:serving:batching_session:input_batch_size histogram",
        ":tensorflow:serving:batching_session:processed_batch_size histogram",
        ":tensorflow:serving:batching_session:padding_size histogram",
        ":tensorflow:serving:batching_session:wrapped_run_count counter",
    ]
    assert "_total" not in page
    assert "_created" not in page


def test_buckets_have_the_real_servers_limits():
    page = metrics.page().decode()
    for name, first, last, count in (("queuing_latency", "100.0", "1.09205e+06", 52), ("input_batch_size", "1.0", "8192.0", 14)):
        limits = re.findall(rf'^:tensorflow:serving:batching_session:{name}_bucket{{.*?le="(\S+?)"', page, re.MULTILINE)
        assert (limits[0], limits[-2:], len(limits)) == (first, [last, "+Inf"], count + 1)
