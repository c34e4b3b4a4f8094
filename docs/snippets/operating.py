"""What people do now and then, by the client: docs/operations.md."""

# ruff: noqa: T201

from collections.abc import Callable

from stepwell import Context, Stepwell

app = Stepwell("shop")
processed: list[str] = []


@app.function(on="order/created")
def process_order(ctx: Context[dict[str, str]]) -> None:
    ctx.step.run("process", lambda: processed.append(ctx.event.data["order_id"]))


def hold_back(repair: Callable[[], None]) -> None:
    client = app.client
    # [pause]
    client.pause("shop/process-order")  # new runs wait in line, those that have begun go on
    repair()
    client.resume("shop/process-order")  # they start in the order of their events
    # [end]


def send_back() -> None:
    client = app.client
    # [letters]
    for letter in client.dead_letters():  # looking takes nothing away
        print(letter.code, letter.reason, letter.body)
        if letter.code == "too-many-receives":  # it was sound, and could not be handled at the time
            client.redrive(letter.id)  # without an id: all of them
    # [end]
