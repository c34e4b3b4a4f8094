"""`stepwell cost`: what a million runs of one's own shape cost, here and elsewhere. Pure arithmetic, no account needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepwell.cli.friendly import friendly
from stepwell.cli.target import AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from stepwell.cli.pricing.bill import Item
    from stepwell.cli.pricing.peers import Peer


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(cost)


@friendly
def cost(
    steps: Annotated[int, typer.Option("--steps", min=0, help="Steps of a run.")] = 5,
    step_ms: Annotated[float, typer.Option("--step-ms", min=0, help="What one step works, milliseconds.")] = 100.0,
    memory_mb: Annotated[int, typer.Option("--memory-mb", help="The worker's memory.")] = 1024,
    event_kb: Annotated[float, typer.Option("--event-kb", min=0, help="The event, KB of JSON.")] = 0.5,
    result_kb: Annotated[float, typer.Option("--result-kb", min=0, help="A step's result, KB as stored.")] = 0.5,
    sleeps: Annotated[int, typer.Option("--sleeps", min=0, help="Sleeps of a run, after its steps.")] = 0,
    sleep_for: Annotated[str, typer.Option("--sleep-for", help="How long each sleep is, such as 10m or 3d.")] = "1h",
    waits: Annotated[int, typer.Option("--waits", min=0, help="Waits for an event, after the steps.")] = 0,
    batch: Annotated[float, typer.Option("--batch", help="Events that arrive and are handled together.")] = 1.0,
    retention_days: Annotated[float, typer.Option("--retention-days", min=0, help="How long runs are kept.")] = 30.0,
    runs: Annotated[int, typer.Option("--runs", min=1, help="How many runs.")] = 1_000_000,
    as_json: AsJson = False,
) -> None:
    """What runs of your shape cost at list price, item by item, and what they would cost elsewhere."""
    from stepwell.cli.console import hint, out, print_json
    from stepwell.cli.pricing.bill import WORK, fixed_items, run_items, total
    from stepwell.cli.pricing.counts import Shape
    from stepwell.cli.pricing.peers import compare, usd
    from stepwell.cli.pricing.prices import load
    from stepwell.cli.words import several
    from stepwell.durations import seconds

    shape = Shape(
        steps=steps, step_ms=step_ms, memory_mb=memory_mb, event_kb=event_kb, result_kb=result_kb, sleeps=sleeps,
        sleep_seconds=seconds(sleep_for, what="--sleep-for"), waits=waits, batch=batch, retention_days=retention_days,
    )  # fmt: skip
    prices = load()
    items, fixed, peers = run_items(shape, prices, runs), fixed_items(prices), compare(shape, prices, runs)
    whole = total(items)
    if as_json:
        print_json(
            {
                "date": prices.date.isoformat(),
                "region": prices.region,
                "runs": runs,
                "shape": vars(shape),
                "items": [_item_shape(item) for item in items],
                "usd": round(whole, 6),
                "usd_without_work": round(total(items, without=WORK), 6),
                "fixed_per_month": [_item_shape(item) for item in fixed],
                "compared": [_peer_shape(peer, whole) for peer in peers],
            }
        )
        return
    console = out()
    of = [several(steps, "step")] + [several(n, word) for n, word in ((sleeps, "sleep"), (waits, "wait")) if n]
    console.print(f"[bold]{several(runs, 'run')}[/bold] of {', '.join(of)}: [bold]{usd(whole)}[/bold]")
    console.print(_table(items))
    hint(
        console,
        f"{usd(total(items, without=WORK))} besides the steps' own work. A deployment that does nothing costs "
        f"{usd(total(fixed))} a month: {', '.join(f'{item.name} {usd(item.usd)}' for item in fixed[:3])}, the sweeper.",
    )
    console.print()
    console.print(_compared(peers, whole))
    hint(
        console,
        f"List prices of {prices.region}, {prices.date:%Y-%m-%d}, without free tiers, logs and tracing; retries are not "
        "counted. Requests are those the engine makes, by formula; tests hold it against counted ones.",
    )


def _table(items: list[Item]) -> Table:
    from rich.table import Table

    from stepwell.cli.pricing.peers import usd

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("item")
    for name in ("quantity", "", "price", "USD"):
        table.add_column(name, justify="left" if name == "" else "right", no_wrap=True)
    for item in items:
        table.add_row(item.name, quantity(item.quantity), item.unit, price(item), usd(item.usd))
    return table


def _compared(peers: list[Peer], ours: float) -> Table:
    from rich.table import Table

    from stepwell.cli.pricing.peers import usd

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("elsewhere", no_wrap=True)
    table.add_column("USD", justify="right", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("arithmetic", style="dim")
    for peer in peers:
        table.add_row(peer.name, usd(peer.usd), times(peer.usd, ours), peer.arithmetic)
    return table


def quantity(value: float) -> str:
    """A quantity: thousands set apart, small ones with what digits they have."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def price(item: Item) -> str:
    """The price of a line, by the million where one costs next to nothing."""
    return f"${item.price * 1_000_000:.4g} a million" if item.price < 0.01 else f"${item.price:g}"


def times(theirs: float, ours: float) -> str:
    """How many times as much."""
    return f"{theirs / ours:.1f}x" if ours else ""


def _item_shape(item: Item) -> dict[str, Any]:
    return {
        "name": item.name,
        "quantity": round(item.quantity, 6),
        "unit": item.unit,
        "price": item.price,
        "usd": round(item.usd, 6),
    }


def _peer_shape(peer: Peer, ours: float) -> dict[str, Any]:
    return {
        "name": peer.name,
        "usd": round(peer.usd, 6),
        "times": round(peer.usd / ours, 2) if ours else None,
        "arithmetic": peer.arithmetic,
    }
