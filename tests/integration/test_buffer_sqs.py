"""What only SQS does: sizes, batches whose entries fail one by one, dead-letter rules, credentials."""

from __future__ import annotations

import asyncio
import io
import json
import os
from contextlib import AbstractAsyncContextManager

import pytest

from churn_radar import logs
from churn_radar.buffer.open import open_buffer
from churn_radar.buffer.protocol import Buffer, BufferOptions, RawEvent
from churn_radar.errors import BufferUnavailable, SettingsError, TooLargeToBuffer
from churn_radar.settings import Environment, IsolatedSettings
from tests.integration.wire import saying, wire
from tests.support.buffers import CAME_AT, raw, sqs_bench, sqs_client, take_all, tokens

pytestmark = pytest.mark.usefixtures("aws_keys")
MIB = 1024 * 1024


async def test_a_body_larger_than_a_message_is_compressed_and_comes_out_as_it_was(moto: str) -> None:
    event = RawEvent(raw("a", filler="unsubscribed " * (5 * MIB // 13)).body, CAME_AT)
    assert len(event.body) > 5 * MIB - 1000
    async with sqs_bench(moto).open() as buffer:
        await buffer.put(event)
        (taken,) = await take_all(buffer, 1)
        assert taken.event == event


async def test_a_body_that_fits_in_no_message_is_told_apart(moto: str) -> None:
    async with sqs_bench(moto).open() as buffer:
        with pytest.raises(TooLargeToBuffer):
            await buffer.put(RawEvent(os.urandom(MIB), CAME_AT))
        # It was not held up by it, and holds nothing of it.
        await buffer.put(raw("a"))
        assert await buffer.length() == 1


async def test_a_queue_with_a_smaller_limit_is_kept_to(moto: str) -> None:
    async with sqs_bench(moto, MaximumMessageSize="2048").open() as buffer:
        with pytest.raises(TooLargeToBuffer, match="a message of 2048 bytes"):
            await buffer.put(RawEvent(os.urandom(2048), CAME_AT))
        await buffer.put(raw("a", filler="x" * 20_000))
        (taken,) = await take_all(buffer, 1)
        assert taken.event == raw("a", filler="x" * 20_000)


async def test_large_messages_are_split_into_batches_that_the_service_takes(moto: str) -> None:
    events = [RawEvent(json.dumps({"n": n, "x": os.urandom(200_000).hex()}).encode(), CAME_AT) for n in range(8)]
    async with sqs_bench(moto).open() as buffer:
        await asyncio.gather(*(buffer.put(event) for event in events))
        taken = await take_all(buffer, 8)
        assert sorted(one.event.body for one in taken) == sorted(event.body for event in events)


async def test_of_a_batch_each_entry_has_its_own_fate() -> None:
    attributes = saying(200, {"Attributes": {"MessageRetentionPeriod": "1209600"}})
    mixed = saying(
        200,
        {
            "Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": ""}],
            "Failed": [{"Id": "1", "SenderFault": False, "Code": "InternalError", "Message": "jo@x.io is odd"}],
        },
    )
    # The third entry is in neither list: nothing says that it is held.
    async with wire(attributes, attributes, attributes, mixed) as place:
        url = f"sqs://127.0.0.1:{place.port}/1/q?region=eu-west-1&tls=off"
        async with open_buffer(url, BufferOptions()) as buffer:
            await buffer.length()
            fates = await asyncio.gather(*(buffer.put(raw(name)) for name in "abc"), return_exceptions=True)
    assert fates[0] is None
    assert [type(fate) for fate in fates[1:]] == [BufferUnavailable] * 2
    assert str(fates[1]) == "SQS refused the event: InternalError"


async def test_the_queues_own_rules_are_left_alone_and_holding_does_not_count_as_taking(moto: str) -> None:
    with sqs_client(moto) as client:
        dead = client.create_queue(QueueName="dead-letters")["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    bench = sqs_bench(moto, RedrivePolicy=policy)
    before = bench.attributes()
    async with bench.open() as buffer:
        await buffer.put(raw("a"))
        taken = await take_all(buffer, 1)
        for _ in range(5):
            await buffer.hold(tokens(taken))
        await buffer.release(tokens(taken))
        (again,) = await take_all(buffer, 1)
        assert again.deliveries == 2
        await buffer.done(tokens([again]))
    after = bench.attributes()
    assert json.loads(after["RedrivePolicy"]) == json.loads(policy)
    assert after["VisibilityTimeout"] == before["VisibilityTimeout"]


async def test_a_short_retention_is_warned_of(moto: str) -> None:
    async with sqs_bench(moto, MessageRetentionPeriod="345600").open() as buffer:
        assert await buffer.check() == ["the queue deletes messages after 4 d; set its retention to 14 days"]
    async with sqs_bench(moto).open() as buffer:
        assert await buffer.check() == []


async def test_a_queue_that_does_not_exist_stops_the_start_in_one_line(moto: str) -> None:
    with pytest.raises(SettingsError) as caught:
        async with open_buffer(f"sqs://{moto}/123456789012/nowhere?region=eu-west-1&tls=off", BufferOptions()):
            pass
    (line,) = caught.value.problems
    assert line.startswith("CHURN_RADAR_BUFFER_URL: ")
    assert "NonExistentQueue" in line or "QueueDoesNotExist" in line


async def test_missing_credentials_stop_the_start_in_one_line(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(SettingsError) as caught:
        async with sqs_bench_without_keys(moto):
            pass
    assert "AWS_ACCESS_KEY_ID" in caught.value.problems[0]


def sqs_bench_without_keys(moto: str) -> AbstractAsyncContextManager[Buffer]:
    return open_buffer(f"sqs://{moto}/123456789012/q?region=eu-west-1&tls=off", BufferOptions())


async def test_nothing_of_an_event_is_logged_even_at_debug(moto: str) -> None:
    stream = io.StringIO()
    logs.configure(
        IsolatedSettings(environment=Environment.DEVELOPMENT, log_format="json", log_level="debug"), stream=stream
    )
    async with sqs_bench(moto).open() as buffer:
        await buffer.put(raw("a-secret-id"))
        await buffer.done(tokens(await take_all(buffer, 1)))
    assert "jo@x.io" not in stream.getvalue()
    assert "a-secret-id" not in stream.getvalue()
    assert "AWS4-HMAC" not in stream.getvalue()
    # Its values would be left out of its lines anyway; the lines themselves are dozens for each call.
    assert "botocore" not in stream.getvalue()
