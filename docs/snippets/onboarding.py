"""The first function: README and getting-started."""

# ruff: noqa: T201

# [app]
from stepwell import Context, EventModel, Stepwell, step

app = Stepwell("onboarding")


class UserSignedUp(EventModel, name="user/signed-up"):
    user_id: str
    email: str


@step(retries=5)
def create_account(user_id: str) -> str:
    return f"account-of-{user_id}"  # here you would call your billing system


@step
def send_mail(to: str, template: str) -> None:
    print(f"mail to {to}: {template}")


@app.function(on=UserSignedUp)
def onboard(ctx: Context[UserSignedUp]) -> dict[str, str]:
    user = ctx.event.data
    account = ctx.step.run(create_account, user.user_id)
    ctx.step.run("welcome-mail", send_mail, user.email, "welcome")
    ctx.step.sleep("three-days", "3d")
    ctx.step.run("tips-mail", send_mail, user.email, "tips")
    return {"account": account}


# [end]


# [verified]
class EmailVerified(EventModel, name="user/verified"):
    user_id: str


@app.function(on=UserSignedUp)
def remind(ctx: Context[UserSignedUp]) -> str:
    user = ctx.event.data
    verified = ctx.step.wait_for_event(
        "verified", event=EmailVerified, match={"data.user_id": user.user_id}, timeout="24h"
    )
    if verified is None:  # nobody clicked for a day
        ctx.step.run("reminder-mail", send_mail, user.email, "please-verify")
        return "reminded"
    return "verified"


# [end]


def play() -> None:
    # [play]
    from stepwell.testing import LocalStepwell

    with LocalStepwell(app) as local:
        local.crash_after("create_account")  # the worker dies: account made, nothing recorded
        event_id = app.send(UserSignedUp(user_id="u-1", email="ada@example.com"))
        local.run_until_idle()
        local.advance("3d")  # three days, in milliseconds
        run = local.run(event_id, function="onboard")
        assert run is not None
        print(run.status, run.result, list(run.steps))
    # [end]


if __name__ == "__main__":
    play()
