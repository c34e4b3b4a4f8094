"""What AWS services put on a queue, in the shapes their documentation shows, read as events."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import InvalidEvent
from stepwell.events import Envelope, check_id, check_name
from stepwell.native import Unreadable, chosen_id, eventbridge_name, native_events

SENT = 1_767_225_600_000

# Amazon EventBridge user guide: an event of Amazon EC2.
EC2: dict[str, Any] = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "111122223333",
    "time": "2017-12-22T18:43:48Z",
    "region": "us-west-1",
    "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
    "detail": {"instance-id": "i-1234567890abcdef0", "state": "terminated"},
}

# Amazon S3 user guide: the notification of a PUT.
PUT: dict[str, Any] = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-west-2",
            "eventTime": "1970-01-01T00:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {
                "x-amz-request-id": "C3D13FE58DE4C810",
                "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD",
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "testConfigRule",
                "bucket": {
                    "name": "mybucket",
                    "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                    "arn": "arn:aws:s3:::mybucket",
                },
                "object": {
                    "key": "HappyFace.jpg",
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                    "sequencer": "0055AED6DCD90281E5",
                },
            },
        }
    ]
}

S3_TEST = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2014-10-13T15:57:02.089Z",
    "Bucket": "amzn-s3-demo-bucket",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}

# Amazon SNS developer guide: a notification to an SQS queue, raw message delivery off.
SNS: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "dc1e94d9-56c5-5e96-808d-cc7f68faa162",
    "TopicArn": "arn:aws:sns:us-east-2:111122223333:ExampleTopic1",
    "Subject": "TestSubject",
    "Message": "This is a test message.",
    "Timestamp": "2021-02-16T21:41:19.978Z",
    "SignatureVersion": "1",
    "Signature": "FMG5tlZhJNHLHUXvZgtZzlk24FzVa7oX0T4P03neeXw8ZEXZx6z35j2FOTuNYShn2h0bKNC/zLTnMyIxEzmi2X1shOBWsJHkrW2xkR58ABZ",
    "SigningCertURL": "https://sns.us-east-2.amazonaws.com/SimpleNotificationService-010a507c1833636cd94bdb98bd93083a.pem",
    "UnsubscribeURL": "https://sns.us-east-2.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=arn:aws:sns:us-east-2:1",
    "MessageAttributes": {"store": {"Type": "String", "Value": "example_corp"}},
}


def only(body: Any) -> Envelope:
    events = native_events(body, sent=SENT)
    assert events is not None
    (event,) = events
    assert isinstance(event, Envelope)
    return event


def record(**changes: Any) -> dict[str, Any]:
    """The documented record, with other fields of its object."""
    changed = deepcopy(PUT["Records"][0])
    changed["s3"]["object"] |= changes
    return changed


def over_sns(message: Any, **changes: Any) -> dict[str, Any]:
    return {**SNS, "Message": message if isinstance(message, str) else json.dumps(message), **changes}


class TestEventBridge:
    def test_an_event_keeps_its_id_its_time_and_its_words(self) -> None:
        event = only(EC2)
        assert event.name == "aws/eventbridge/aws.ec2/EC2-Instance-State-change-Notification"
        assert event.name == eventbridge_name("aws.ec2", "EC2 Instance State-change Notification")
        assert (event.id, event.ts) == (EC2["id"], 1_513_968_228_000)
        assert event.data == {
            "source": "aws.ec2",
            "detail_type": "EC2 Instance State-change Notification",
            "detail": {"instance-id": "i-1234567890abcdef0", "state": "terminated"},
            "account": "111122223333",
            "region": "us-west-1",
            "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
            "time": "2017-12-22T18:43:48Z",
        }

    @pytest.mark.parametrize(
        ("detail_type", "name"),
        [
            ("OrderCreated", "aws/eventbridge/com.shop/OrderCreated"),
            ("order/created", "aws/eventbridge/com.shop/order/created"),
            ("  a\tb # c*  ", "aws/eventbridge/com.shop/a-b-c-"),
        ],
    )
    def test_an_event_of_ones_own_is_named_by_its_source_and_detail_type(self, detail_type: str, name: str) -> None:
        assert only({**EC2, "source": "com.shop", "detail-type": detail_type}).name == name

    def test_two_rules_that_match_one_event_give_the_same_event(self) -> None:
        assert only(EC2) == only(json.loads(json.dumps(EC2)))

    def test_an_event_from_an_archive_is_another_one_for_each_replay(self) -> None:
        ids = {only({**EC2, **more}).id for more in ({}, {"replay-name": "one"}, {"replay-name": "two"})}
        assert len(ids) == 3

    @pytest.mark.parametrize("change", [{"source": None}, {"detail-type": 5}, {"id": {}}])
    def test_one_that_cannot_be_named_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(InvalidEvent, match="EventBridge"):
            native_events({**EC2, **change}, sent=SENT)

    def test_a_source_cannot_speak_for_the_engine(self) -> None:
        assert only({**EC2, "source": "stepwell", "detail-type": "run.failed"}).name.startswith("aws/")


class TestS3:
    def test_a_record_is_an_event_with_bucket_and_key(self) -> None:
        event = only(PUT)
        assert (event.name, event.ts) == ("aws/s3/ObjectCreated", 0)
        assert event.data == {
            "event": "ObjectCreated:Put",
            "bucket": "mybucket",
            "key": "HappyFace.jpg",
            "size": 1024,
            "etag": "d41d8cd98f00b204e9800998ecf8427e",
            "version_id": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
            "sequencer": "0055AED6DCD90281E5",
            "region": "us-west-2",
            "time": "1970-01-01T00:00:00.000Z",
            "principal": "AIDAJDPLRKLG7UEXAMPLE",
            "source_ip": "127.0.0.1",
        }

    @pytest.mark.parametrize(
        ("encoded", "key"),
        [
            ("red+flower.jpg", "red flower.jpg"),
            ("a%2Bb%26c.txt", "a+b&c.txt"),
            ("%C3%BCber/%E2%82%AC.txt", "über/€.txt"),
            ("2026/01/plain.txt", "2026/01/plain.txt"),
        ],
    )
    def test_the_key_is_as_the_object_is_called(self, encoded: str, key: str) -> None:
        assert only({"Records": [record(key=encoded)]}).data["key"] == key

    def test_a_notification_delivered_twice_has_the_same_id(self) -> None:
        again = deepcopy(PUT)
        again["Records"][0]["s3"]["configurationId"] = "another configuration of the same bucket"
        assert only(again) == only(PUT)

    @pytest.mark.parametrize(
        "change", [{"sequencer": "0055AED6DCD90281E6"}, {"key": "Sad.jpg"}, {"versionId": "2"}, {"versionId": None}]
    )
    def test_another_object_version_or_write_is_another_event(self, change: dict[str, Any]) -> None:
        assert only({"Records": [record(**change)]}).id != only(PUT).id

    def test_what_was_put_and_then_deleted_are_two_events(self) -> None:
        deleted = {**record(), "eventName": "ObjectRemoved:Delete"}
        event = only({"Records": [deleted]})
        assert (event.name, event.data["event"]) == ("aws/s3/ObjectRemoved", "ObjectRemoved:Delete")
        assert event.id != only(PUT).id

    def test_without_a_sequencer_the_request_tells_events_apart(self) -> None:
        expired = {**record(sequencer=None), "eventName": "LifecycleExpiration:Delete"}
        other = {**expired, "responseElements": {"x-amz-request-id": "D82B88E5F771F645"}}
        assert only({"Records": [expired]}).id == only({"Records": [deepcopy(expired)]}).id
        assert only({"Records": [expired]}).id != only({"Records": [other]}).id

    def test_several_records_are_several_events(self) -> None:
        events = native_events({"Records": [record(key=key) for key in "abc"]}, sent=SENT)
        assert events is not None
        assert [event.data["key"] for event in events] == ["a", "b", "c"]
        assert len({event.id for event in events}) == 3

    def test_what_belongs_to_one_kind_of_event_stands_in_its_details(self) -> None:
        told = {"restoreEventData": {"lifecycleRestorationExpiryTime": "1970-01-02T00:00:00.000Z"}}
        restored = {**record(), "eventName": "ObjectRestore:Completed", "glacierEventData": told}
        assert only({"Records": [restored]}).data["details"] == {"glacierEventData": told}

    def test_the_test_message_is_no_event(self) -> None:
        assert native_events(S3_TEST, sent=SENT) == []

    @pytest.mark.parametrize("part", ["bucket", "object"])
    def test_a_record_without_its_object_is_refused(self, part: str) -> None:
        broken = deepcopy(PUT)
        del broken["Records"][0]["s3"][part]
        with pytest.raises(InvalidEvent, match="S3"):
            native_events(broken, sent=SENT)


class TestSns:
    def test_a_text_is_an_event_of_its_topic(self) -> None:
        event = only(SNS)
        assert (event.name, event.id) == ("aws/sns/ExampleTopic1", SNS["MessageId"])
        assert event.ts == 1_613_511_679_978
        assert event.data == {
            "topic_arn": SNS["TopicArn"],
            "subject": "TestSubject",
            "attributes": {"store": "example_corp"},
            "time": "2021-02-16T21:41:19.978Z",
            "message": "This is a test message.",
        }

    @pytest.mark.parametrize(
        ("message", "read"),
        [
            ('{"order": 1}', {"order": 1}),
            ("[1, 2]", [1, 2]),
            ("{not json", "{not json"),
            ("17", "17"),
            ("", ""),
            ('{"name": "order/created"}', {"name": "order/created"}),
            ('{"name": "a b", "data": 5}', {"name": "a b", "data": 5}),
        ],
    )
    def test_json_is_read_and_everything_else_is_text(self, message: str, read: Any) -> None:
        assert only(over_sns(message)).data["message"] == read

    def test_an_event_in_it_is_that_event(self) -> None:
        event = only(over_sns({"name": "order/created", "data": {"n": 1}, "id": "o-1", "tenant": "acme"}))
        assert event == Envelope("o-1", "order/created", {"n": 1}, 1_613_511_679_978, "acme")

    def test_an_event_without_an_id_has_that_of_the_message(self) -> None:
        assert only(over_sns({"name": "order/created", "data": {}})).id == SNS["MessageId"]

    def test_an_event_in_it_with_a_bad_field_is_refused_naming_the_field(self) -> None:
        with pytest.raises(InvalidEvent, match="ts"):
            native_events(over_sns({"name": "a", "data": {}, "ts": "soon"}), sent=SENT)

    def test_the_engines_own_messages_do_not_come_over_a_topic(self) -> None:
        event = only(over_sns({"stepwell": "look", "run": "shop.1", "name": "x", "data": {}}))
        assert event.name == "aws/sns/ExampleTopic1"

    @pytest.mark.parametrize("carried", [PUT, EC2])
    def test_a_notification_in_it_is_read_as_if_it_had_come_directly(self, carried: dict[str, Any]) -> None:
        assert only(over_sns(carried)) == only(carried)

    def test_the_test_message_of_s3_is_no_event_here_either(self) -> None:
        assert native_events(over_sns(S3_TEST), sent=SENT) == []

    def test_a_topic_in_a_topic_is_only_a_message(self) -> None:
        assert only(over_sns(SNS)).data["message"]["Type"] == "Notification"

    def test_a_subscription_that_waits_for_confirmation_says_so(self) -> None:
        with pytest.raises(InvalidEvent, match="SubscribeURL"):
            native_events({**SNS, "Type": "SubscriptionConfirmation"}, sent=SENT)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        {"name": "order/created", "data": {}},
        {"Records": []},
        {"Records": [{"eventSource": "aws:ses"}]},
        {"Records": [{"eventSource": "aws:ses"}, {"eventSource": "aws:sqs"}]},
        {"Type": "Notification", "MessageId": "1", "TopicArn": "not an arn"},
        {"detail-type": "x", "source": "y"},
    ],
)
def test_everything_else_is_not_of_theirs(body: Any) -> None:
    assert native_events(body, sent=SENT) is None


NESTED: Any = {"x": 1}
for _ in range(150):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (record(key=""), "without event name, bucket or key"),
        ({**record(), "eventName": ""}, "without event name"),
        ({**record(), "eventName": "x" * 400}, "at most 256"),
        ({**record(), "userIdentity": {"principalId": "\ud800"}}, "half of a surrogate pair"),
        ({**record(), "userIdentity": {"principalId": float("inf")}}, "is inf"),
        ({**record(), "glacierEventData": NESTED}, "deep"),
        ({"eventSource": "aws:ses"}, "that S3 has not made"),
        ({"eventSource": "aws:s3"}, "that S3 has not made"),
        (None, "that S3 has not made"),
    ],
)
@pytest.mark.parametrize("carried", [False, True])
def test_a_record_that_cannot_be_read_does_not_keep_its_neighbours(bad: Any, says: str, carried: bool) -> None:
    body = {"Records": [record(key="a"), bad, record(key="b")]}
    text = json.dumps(body).replace("Infinity", "1e999")  # as JSON can say it
    first, second, third = native_events(over_sns(text) if carried else body, sent=SENT) or []
    assert isinstance(first, Envelope)
    assert isinstance(third, Envelope)
    assert [first.data["key"], third.data["key"]] == ["a", "b"]
    assert isinstance(second, Unreadable)
    assert says in second.error.message
    assert second.body == {"Records": [bad]}


def test_a_message_nested_beyond_reason_is_refused_over_a_topic_as_well() -> None:
    text = (
        '{"Records": ['
        + json.dumps(PUT["Records"][0])
        + ', {"eventSource": "aws:s3", "x": '
        + "[" * 700
        + "]" * 700
        + "}]}"
    )
    with pytest.raises(InvalidEvent, match="deep"):
        native_events({**SNS, "Message": text}, sent=SENT)


@pytest.mark.parametrize("time", [None, "yesterday", 5e300, {}])
def test_a_time_that_is_none_is_that_of_the_message(time: Any) -> None:
    assert only({**EC2, "time": time}).ts == SENT


def test_an_id_that_looks_like_one_of_stepwells_own_is_marked_as_a_strangers() -> None:
    made = "evt_01KDVDNA00T72HFXFYNWKQAGDB"
    assert chosen_id(made, source="eventbridge") == f"eventbridge:{made}"
    assert chosen_id("evt_1MqqbKLt4dXK03v5qaIbiNCC", source="stripe") == "evt_1MqqbKLt4dXK03v5qaIbiNCC"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists, max_leaves=4), st.data())
def test_whatever_stands_in_the_fields_it_is_an_event_or_refused(value: Any, data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([EC2, PUT["Records"][0], SNS]))
    place = data.draw(st.sampled_from(sorted(base)))
    body = {**base, place: value}
    try:
        events = native_events({"Records": [body]} if base is PUT["Records"][0] else body, sent=SENT)
    except InvalidEvent:
        return
    for event in events or []:
        assert isinstance(event, Envelope)
        assert check_name(event.name)
        assert check_id(event.id)
        json.dumps(event.as_json())
