import asyncio
import re

import pytest

from serving.tfserving.embedded import metrics
from serving.tfserving.embedded.errors import invalid_argument


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


def test_the_page_has_tensorflow_servings_names_and_types():
    page = metrics.page().decode()
    assert re.findall(r"^# TYPE (\S+ \S+)$", page, re.MULTILINE) == [
        ":tensorflow:serving:request_count counter",
        ":tensorflow:serving:request_latency histogram",
    ]
    assert "_total" not in page
    assert "_created" not in page
