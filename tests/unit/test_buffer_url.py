from __future__ import annotations

import pytest

from churn_radar.buffer.open import open_buffer
from churn_radar.buffer.protocol import BufferOptions
from churn_radar.buffer.url import RedisPlace, SqsPlace, read_buffer_url
from churn_radar.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://cache", "redis://cache/0"),
        ("redis://:pass-word@cache:6380/3", "redis://cache:6380/3"),
        ("rediss://someone:pass-word@cache.example:6380", "rediss://cache.example:6380/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
    ],
)
def test_a_redis_url_is_named_without_its_password(url: str, name: str) -> None:
    place = read_buffer_url(url)
    assert isinstance(place, RedisPlace)
    assert (place.url, place.name) == (url, name)
    assert "pass-word" not in repr(place)


@pytest.mark.parametrize(
    ("url", "queue_url", "region"),
    [
        (
            "sqs://sqs.eu-west-1.amazonaws.com/123456789012/churn",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/churn",
            "eu-west-1",
        ),
        (
            "sqs://sqs.us-gov-west-1.amazonaws.com/123456789012/churn.fifo",
            "https://sqs.us-gov-west-1.amazonaws.com/123456789012/churn.fifo",
            "us-gov-west-1",
        ),
        (
            "sqs://sqs.cn-north-1.amazonaws.com.cn/123456789012/churn",
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/churn",
            "cn-north-1",
        ),
        (
            "sqs://127.0.0.1:9324/000000000000/churn?region=eu-west-1&tls=off",
            "http://127.0.0.1:9324/000000000000/churn",
            "eu-west-1",
        ),
    ],
)
def test_an_sqs_url_is_the_queues_own_with_another_scheme(url: str, queue_url: str, region: str) -> None:
    place = read_buffer_url(url)
    assert isinstance(place, SqsPlace)
    assert (place.queue_url, place.region) == (queue_url, region)
    assert queue_url.startswith(place.endpoint)
    assert place.is_fifo == url.endswith(".fifo")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "give redis://"),
        ("kafka://pass-word@host/topic", "not a buffer this release knows"),
        ("redis://", "names no host"),
        ("redis://:pass-word@host:port/0", "not a URL"),
        ("redis://:pass-word@host/stream", "number of a Redis database"),
        ("redis://host/0?ssl_cert_reqs=none", "no options"),
        ("sqs://key:pass-word@sqs.eu-west-1.amazonaws.com/1/q", "holds no keys"),
        ("sqs://sqs.eu-west-1.amazonaws.com/q", "account's number"),
        ("sqs://localhost:9324/1/q", "add it"),
        ("sqs://localhost/1/q?region=eu-west-1&tls=maybe", "nothing else"),
        ("sqs://localhost/1/q?region=eu-west-1&password=pass-word", "nothing else"),
        ("redis://[::1", "not a URL"),
    ],
)
async def test_a_wrong_url_is_one_line_that_names_the_variable_and_quotes_nothing(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        async with open_buffer(url, BufferOptions()):
            pass
    (line,) = caught.value.problems
    assert line.startswith("CHURN_RADAR_BUFFER_URL: ")
    assert said in line
    assert "pass-word" not in line
    assert "\n" not in line
