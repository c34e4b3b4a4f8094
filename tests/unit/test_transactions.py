"""Several writes at once: which refusal is told, what is tried again, and that a single update costs no transaction."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from stepwell.store.table import Table
from stepwell.store.transactions import CONFLICTS, Contended, Refused, Transactions, Write

WRITES = (
    Write("Put", ("a", "1"), item={"pk": "a", "sk": "1"}, if_="attribute_not_exists(pk)"),
    Write("Update", ("b", "1"), add={"n": 1}, if_="#n < :limit", values={":limit": 3}),
)


def cancelled(*codes: str, item: dict[str, Any] | None = None) -> ClientError:
    reasons = [{"Code": code} | ({"Item": item} if item and code == "ConditionalCheckFailed" else {}) for code in codes]
    answer: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
    return ClientError(answer, "TransactWriteItems")


class Answers:
    """A client that answers as it is told."""

    def __init__(self, *answers: ClientError | None) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer
        return {}

    def update_item(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        return {}


def over(client: Answers) -> tuple[Transactions, list[int]]:
    pauses: list[int] = []
    return Transactions(Table(lambda: client, "table", pause=pauses.append)), pauses


def test_the_first_refusal_is_told_with_what_stands_there() -> None:
    client = Answers(cancelled("None", "ConditionalCheckFailed", item={"n": {"N": "3"}}))
    with pytest.raises(Refused) as refused:
        over(client)[0].write(*WRITES)
    assert (refused.value.index, refused.value.item) == (1, {"n": 3})


def test_a_meeting_of_two_transactions_is_tried_again_after_a_pause() -> None:
    client = Answers(cancelled("TransactionConflict", "None"), cancelled("None", "ThrottlingError"), None)
    transactions, pauses = over(client)
    transactions.write(*WRITES)
    assert pauses == [0, 1]
    assert client.asked[0] == client.asked[2]


def test_who_never_gets_through_is_told() -> None:
    client = Answers(*[cancelled("TransactionConflict", "None")] * (CONFLICTS + 1))
    with pytest.raises(Contended):
        over(client)[0].write(*WRITES)


def test_anything_else_is_an_error_of_its_own() -> None:
    with pytest.raises(ClientError):
        over(Answers(cancelled("ValidationError", "None")))[0].write(*WRITES)


def test_a_single_update_is_no_transaction() -> None:
    client = Answers()
    over(client)[0].write(WRITES[1])
    assert "TransactItems" not in client.asked[0]


CONFLICT = ClientError({"Error": {"Code": "TransactionConflictException"}}, "UpdateItem")


def test_a_plain_write_that_meets_a_transaction_is_tried_again_after_a_pause() -> None:
    client = Answers(CONFLICT, CONFLICT, None)
    pauses: list[int] = []
    Table(lambda: client, "table", pause=pauses.append).update("b", "1", add={"n": 1})
    assert (pauses, len(client.asked)) == ([0, 1], 3)


def test_a_plain_write_that_never_gets_through_is_an_error() -> None:
    client = Answers(*[CONFLICT] * (CONFLICTS + 1))
    pauses: list[int] = []
    with pytest.raises(ClientError, match="TransactionConflict"):
        Table(lambda: client, "table", pause=pauses.append).update("b", "1", add={"n": 1})
    assert len(pauses) == CONFLICTS
