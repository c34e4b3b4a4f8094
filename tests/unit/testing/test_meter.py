"""Billable requests are counted by AWS's rules, from the sizes of the items."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.testing.itemsize import item_size, number_size, value_size
from stepwell.testing.meter import Requests

from .toys import Aws, bodies, toy_world


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 1), ("1", 2), ("12", 2), ("123", 3), ("100", 2), ("-5", 3), ("1.5", 2), ("1785542400000", 5), ("0.001", 2)],
)
def test_a_number_takes_a_byte_for_each_two_significant_digits_and_one_more(text: str, size: int) -> None:
    assert number_size(text) == size


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "häß"}, 5),
        ({"B": b"12345"}, 5),
        ({"B": "MTIzNDU="}, 5),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"SS": ["ab", "c"]}, 3),
        ({"NS": ["12", "1"]}, 4),
        ({"L": [{"S": "a"}, {"N": "1"}]}, 3 + 2 + 3),
        ({"M": {"ab": {"S": "c"}}}, 3 + 1 + 2 + 1),
        ({"L": []}, 3),
    ],
)
def test_every_type_has_its_size(value: dict[str, Any], size: int) -> None:
    assert value_size(value) == size


def test_the_names_of_attributes_count_too() -> None:
    assert item_size({"pk": {"S": "abc"}, "n": {"N": "7"}}) == 2 + 3 + 1 + 2


def cost(act: Any, *before: Any) -> Requests:
    """What `act` costs after `before`, all done by the test's own client."""
    with toy_world() as (world, aws):
        for step in before:
            step(aws)
        earlier = world.requests
        act(aws)
        return world.requests - earlier


def test_a_write_costs_a_unit_for_each_kilobyte_begun() -> None:
    assert cost(lambda aws: aws.put("RUN#1", "STEP#a", body="x" * 900)).write_units == 1
    assert cost(lambda aws: aws.put("RUN#1", "STEP#a", body="x" * 1024)).write_units == 2


def test_an_update_costs_the_larger_of_before_and_after() -> None:
    large = lambda aws: aws.put("RUN#1", body="x" * 3000)  # noqa: E731
    assert cost(lambda aws: aws.update("RUN#1", body="y"), large).write_units == 3
    assert cost(lambda aws: aws.update("RUN#1", more="y" * 1100), large).write_units == 5


def test_a_refused_write_costs_what_it_would_have_written_or_what_stands_there() -> None:
    def refused(size: int) -> Any:
        def act(aws: Aws) -> None:
            with pytest.raises(aws.dynamodb.exceptions.ConditionalCheckFailedException):
                aws.put("RUN#1", condition="attribute_not_exists(pk)", body="x" * size)

        return act

    assert cost(refused(2000), lambda aws: aws.put("RUN#1")).write_units == 2
    assert cost(refused(1), lambda aws: aws.put("RUN#1", body="x" * 3000)).write_units == 3


@pytest.mark.parametrize(
    ("before", "after", "index_units"),
    [
        ({}, {"due_pk": "DUE#0", "due_sk": "1"}, 1),
        ({"due_pk": "DUE#0", "due_sk": "1"}, {"due_sk": "2"}, 2),
        ({"due_pk": "DUE#0", "due_sk": "1"}, {"note": "unchanged"}, 0),
        ({}, {"note": "not indexed"}, 0),
    ],
)
def test_the_index_costs_what_changes_in_it(before: dict[str, str], after: dict[str, str], index_units: int) -> None:
    spent = cost(lambda aws: aws.update("RUN#1", **after), lambda aws: aws.put("RUN#1", **before))
    assert spent.write_units == 1 + index_units


def test_leaving_the_index_costs_one_unit_more() -> None:
    indexed = lambda aws: aws.put("RUN#1", due_pk="DUE#0", due_sk="1")  # noqa: E731
    assert cost(lambda aws: aws.put("RUN#1"), indexed).write_units == 2


def test_a_transaction_costs_double() -> None:
    def act(aws: Aws) -> None:
        table = aws.world.aws.resources.table
        items = [{"pk": {"S": f"RUN#{n}"}, "sk": {"S": "RUN"}} for n in range(3)]
        aws.dynamodb.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": item}} for item in items])

    assert cost(act).write_units == 6


def test_reads_cost_by_four_kilobytes_and_half_if_they_may_be_stale() -> None:
    large = lambda aws: aws.put("RUN#1", body="x" * 5000)  # noqa: E731
    assert cost(lambda aws: aws.get("RUN#1"), large).read_units == 2
    assert cost(lambda aws: aws.get("RUN#1", consistent=False), large).read_units == 1
    assert cost(lambda aws: aws.get("RUN#none")).read_units == 1


def test_a_query_costs_the_sum_of_what_it_looks_at() -> None:
    def query(aws: Aws) -> None:
        found = aws.dynamodb.query(
            TableName=aws.world.aws.resources.table,
            KeyConditionExpression="pk = :p",
            ExpressionAttributeValues={":p": {"S": "RUN#1"}},
            ConsistentRead=True,
        )
        assert found["Count"] == 10

    steps = [lambda aws, n=n: aws.put("RUN#1", f"STEP#{n}", body="x" * 500) for n in range(10)]
    assert cost(query, *steps).read_units == 2  # 10 items of about half a kilobyte, not 10 units


def test_sqs_is_charged_by_request_and_by_64_kilobytes() -> None:
    assert cost(lambda aws: aws.send("x")).sqs == 1
    assert cost(lambda aws: aws.send("x" * 70_000)).sqs == 2
    assert cost(lambda aws: aws.send_batch({"MessageBody": "a"}, {"MessageBody": "b"})).sqs == 1


def test_a_message_that_is_handled_costs_send_receive_and_delete() -> None:
    with toy_world() as (world, aws):
        aws.send({"n": 1})
        world.run_until_idle()
        assert world.requests.sqs == 3
        assert world.requests.invocations == {"consumer": 1}


def test_what_the_test_looks_at_backstage_costs_nothing() -> None:
    with toy_world() as (world, aws):
        aws.put("RUN#1")
        earlier = world.requests
        assert world.aws.read_item("RUN#1", "RUN") is not None
        world.run_until_idle()
        assert world.requests - earlier == Requests()


def test_requests_made_in_between_are_a_difference() -> None:
    with toy_world(lambda aws, event, context: aws.put("RUN#x") and None) as (world, aws):
        aws.send({})
        world.run_until_idle()
        earlier = world.requests
        aws.send({})
        aws.send({})
        world.run_until_idle()
        spent = world.requests - earlier
        assert spent.invocations["consumer"] == 1
        assert spent.invocations["worker"] == 0
        assert spent.sqs == 4
        assert spent.write_units == 1
        assert bodies({"Records": []}) == []
