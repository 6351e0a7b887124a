"""What is written as JSON is JSON to a parser that keeps to RFC 8259."""

import datetime
import json
import math

import numpy as np
import pytest

from transformers_framework.processing.json_text import to_json


def strict(text):
    def refuse(name):
        raise ValueError(f"no JSON: {name}")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (np.float16("nan"), None),
        (np.float32("inf"), None),
        (np.float64("-inf"), None),
        ([1.5, math.nan, [math.inf, 2]], [1.5, None, [None, 2]]),
        ((0.5, math.nan), [0.5, None]),
        ({"best": {"score": -math.inf, "text": "NaN"}}, {"best": {"score": None, "text": "NaN"}}),
        ([{"text": "Infinity", "score": math.nan}], [{"text": "Infinity", "score": None}]),
        ({1: math.nan, None: 2}, {"1": None, "null": 2}),
        (1e308, 1e308),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        ([datetime.date(2020, 1, 2), math.nan], ["2020-01-02", None]),
        ("über\n", "über\n"),
        (None, None),
    ],
)
def test_what_is_no_number_is_null(value, expected):
    assert strict(to_json({"id": 0, "value": value})) == {"id": 0, "value": expected}


def test_text_is_not_escaped():
    assert to_json({"text": "日本", "score": math.nan}) == '{"text": "日本", "score": null}'
