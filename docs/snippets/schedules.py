"""Functions that a schedule starts: docs/writing-functions.md."""

from typing import Any

from stepwell import Context, Cron, EventModel, Stepwell

from .outside import mail

app = Stepwell("reports")


# [cron]
@app.function(on=Cron("0 8 * * MON-FRI", tz="Europe/Paris", jitter="5m"))
def daily_report(ctx: Context[dict[str, Any]]) -> str:
    day: str = ctx.event.data["scheduled_at"][:10]  # the local date of the tick, "2026-03-27"
    ctx.step.run("send", mail.append, ("ops@example.com", f"report of {day}"))
    return day


# [end]


class ReportAsked(EventModel, name="report/asked"):
    day: str


# [cron-list]
@app.function(on=[ReportAsked, Cron("0 7 1 * *"), Cron("0 7 15 * *")])  # twice a month, and on demand
def long_report(ctx: Context[Any]) -> str:
    if isinstance(ctx.event.data, ReportAsked):
        return ctx.event.data.day
    return str(ctx.event.data["scheduled_at"])[:10]


# [end]
