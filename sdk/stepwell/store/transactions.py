"""Several conditional writes that happen together or not at all.

A transaction is billed twice (DynamoDB, TransactWriteItems), so it is used only where a run and a gate have to agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from stepwell.store.table import (
    CONFLICTS,
    Item,
    Lost,
    Table,
    condition_parts,
    marshal,
    unmarshal,
    update_parts,
    values_of,
)


@dataclass(frozen=True, slots=True)
class Write:
    """One write of a transaction: `item` is put, or the item under `key` changed, deleted, or only checked."""

    verb: str
    """Put, Update, Delete or ConditionCheck."""
    key: tuple[str, str]
    item: Item | None = None
    set_: Mapping[str, Any] = field(default_factory=dict)
    remove: Sequence[str] = ()
    add: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, Any] = field(default_factory=dict)
    """Attributes set only if the item has none of that name."""
    if_: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


class Refused(Exception):
    """The condition of a write did not hold: nothing was written. `index` says which, `item` what stands there."""

    def __init__(self, index: int, item: Item | None) -> None:
        super().__init__(f"the condition of write {index} did not hold")
        self.index = index
        self.item = item


class Contended(Exception):
    """Others kept writing the same items at the same time. Whoever asked tries again later."""


class Transactions:
    """Writing several items of one table at once."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def write(self, *writes: Write) -> None:
        """Do all of the writes, or none. Raises Refused for the first whose condition does not hold, Contended.

        A repetition by the SDK carries the same token, so AWS does not do it twice (TransactWriteItems, idempotency).
        A single update needs no transaction, which would cost double.
        """
        if len(writes) == 1 and writes[0].verb == "Update":
            return self._update(writes[0])
        request = [{write.verb: self._request(write)} for write in writes]
        for attempt in range(CONFLICTS + 1):
            try:
                self._table.client().transact_write_items(TransactItems=request)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "TransactionCanceledException":
                    raise
                reasons: Any = error.response.get("CancellationReasons", [])
                for index, reason in enumerate(reasons):
                    if reason.get("Code") == "ConditionalCheckFailed":
                        stands = reason.get("Item")
                        raise Refused(index, unmarshal(stands) if stands else None) from None
                if not any(reason.get("Code") in PASSING for reason in reasons):
                    raise
                if attempt < CONFLICTS:
                    self._table.pause(attempt)
            else:
                return None
        raise Contended(f"a transaction met others on the same items {CONFLICTS + 1} times")

    def _update(self, write: Write) -> None:
        try:
            self._table.update(
                *write.key,
                set_=write.set_,
                remove=write.remove,
                add=write.add,
                if_=write.if_,
                values=write.values,
                returning="NONE",
            )
        except Lost as lost:
            raise Refused(0, lost.item) from None

    def _request(self, write: Write) -> dict[str, Any]:
        request: dict[str, Any] = {"TableName": self._table.name}
        names: dict[str, str] = {}
        given: dict[str, Any] = dict(write.values)
        if write.item is not None:
            request["Item"] = marshal(write.item)
        else:
            request["Key"] = {"pk": {"S": write.key[0]}, "sk": {"S": write.key[1]}}
        if write.verb == "Update":
            expression, names, changed = update_parts(write.set_, write.remove, write.add, write.absent)
            request["UpdateExpression"] = expression
            given |= changed
        if write.if_:
            named, states = condition_parts(write.if_)
            names, given = names | named, given | states
            request["ConditionExpression"] = write.if_
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        if names:
            request["ExpressionAttributeNames"] = names
        if given:
            request["ExpressionAttributeValues"] = values_of(given)
        return request


PASSING = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
"""Reasons that are gone a moment later."""
