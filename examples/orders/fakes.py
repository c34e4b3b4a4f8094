"""The outside world of the shop, faked: card processor, warehouse, mail and CRM.

The fakes live in memory. Where it matters to durable code they behave like the services they stand for: they can be
down, they can do the work and lose the answer on its way back, and they honour idempotency keys.
"""

from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Literal

DECLINED_CARD = "tok_declined"


class ServiceUnavailable(Exception):
    """The service answered 503; nothing was done."""


class ConnectionLost(Exception):
    """The connection broke before the answer arrived; the work may or may not have been done."""


class KeyReused(Exception):
    """An idempotency key came back with another request than the first time."""


class Service:
    """What the fakes share: a count of requests, a lock, and outages on demand."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.requests = 0
        self._failing = 0

    def fail_next(self, requests: int) -> None:
        """Answer that many requests with 503."""
        self._failing = requests

    def _receive(self) -> None:
        self.requests += 1
        if self._failing > 0:
            self._failing -= 1
            raise ServiceUnavailable(f"{type(self).__name__.lower()} answered 503")


@dataclass(frozen=True)
class Charge:
    """The card processor's answer."""

    id: str
    order_id: str
    amount: int  # in cents
    status: Literal["paid", "declined"]


class Payments(Service):
    """A card processor: one answer for each idempotency key, however often it is asked."""

    def reset(self) -> None:
        super().reset()
        self.ledger: list[Charge] = []  # money that was really taken, in order
        self.refunds: dict[str, int] = {}  # cents given back, by charge id
        self._answers: dict[str, Charge] = {}  # by idempotency key
        self._losing = 0

    def lose_answers(self, answers: int) -> None:
        """Do the work of that many requests, and break the connection before the answer."""
        self._losing = answers

    def charge(self, order_id: str, amount: int, card: str, *, idempotency_key: str) -> Charge:
        """Take `amount` cents from `card`, once for each key. A declined card is an answer, not an error."""
        with self._lock:
            self._receive()
            charge = self._answers.get(idempotency_key)
            if charge is None:
                charge = Charge(
                    id=f"ch_{len(self._answers) + 1}",
                    order_id=order_id,
                    amount=amount,
                    status="declined" if card == DECLINED_CARD else "paid",
                )
                self._answers[idempotency_key] = charge
                if charge.status == "paid":
                    self.ledger.append(charge)
            elif (charge.order_id, charge.amount) != (order_id, amount):
                raise KeyReused(f"{idempotency_key} was used for {charge.amount} cents of order {charge.order_id}")
            if self._losing > 0:
                self._losing -= 1
                raise ConnectionLost("connection reset by the card processor")
            return charge

    def refund(self, order_id: str) -> int:
        """Give back what was taken for an order, each charge once; the cents given back for it in all."""
        with self._lock:
            self._receive()
            charges = [charge for charge in self.ledger if charge.order_id == order_id]
            self.refunds |= {charge.id: charge.amount for charge in charges}
            return sum(charge.amount for charge in charges)


class Warehouse(Service):
    """Packs one parcel for an order; asked again, it names the same parcel."""

    def reset(self) -> None:
        super().reset()
        self.parcels: dict[str, str] = {}  # order id -> parcel id

    def pack(self, order_id: str, charge_id: str) -> str:
        """Return the id of the parcel that the paid order goes out in."""
        with self._lock:
            self._receive()
            return self.parcels.setdefault(order_id, f"parcel-{len(self.parcels) + 1}-{charge_id}")


@dataclass(frozen=True)
class Mail:
    """A letter that left the house."""

    to: str
    template: str
    about: str


class Outbox(Service):
    """A mail service: a letter with a known idempotency key is accepted and not sent again."""

    def reset(self) -> None:
        super().reset()
        self.sent: list[Mail] = []
        self._keys: set[str] = set()

    def send(self, to: str, template: str, about: str, *, idempotency_key: str) -> None:
        """Send one letter for each key."""
        with self._lock:
            self._receive()
            if idempotency_key not in self._keys:
                self._keys.add(idempotency_key)
                self.sent.append(Mail(to, template, about))

    def templates(self, to: str) -> list[str]:
        """What this address was sent, in order."""
        return [letter.template for letter in self.sent if letter.to == to]


class Crm(Service):
    """Contacts by user id. Writing one again changes nothing."""

    def reset(self) -> None:
        super().reset()
        self.contacts: dict[str, str] = {}

    def upsert(self, user_id: str, email: str) -> None:
        """Create or overwrite the contact of a user."""
        with self._lock:
            self._receive()
            self.contacts[user_id] = email


class Trials(Service):
    """When the trial of each user ends."""

    def reset(self) -> None:
        super().reset()
        self.ends: dict[str, datetime] = {}

    def open(self, user_id: str, ends: datetime) -> None:
        """Open the user's trial, or leave the one there is."""
        with self._lock:
            self._receive()
            self.ends.setdefault(user_id, ends)


payments = Payments()
warehouse = Warehouse()
mail = Outbox()
crm = Crm()
trials = Trials()


def reset() -> None:
    """Start with an empty world."""
    for service in (payments, warehouse, mail, crm, trials):
        service.reset()
