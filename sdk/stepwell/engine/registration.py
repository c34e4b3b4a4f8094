"""Apps, registered: what their functions listen to and which Lambdas run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwell.engine.ticking import schedule_functions, unschedule
from stepwell.errors import InvalidOption
from stepwell.ports import Ports

MANIFEST_VERSION = 1


def register(ports: Ports, manifest: Mapping[str, Any], workers: Mapping[str, str]) -> None:
    """Write an app's manifest and the ARNs of its workers by compute class. From then on its functions get events.

    Its schedules follow: cut off in between, new ones tick from the repetition on, and removed ones for nothing until then.
    Raises InvalidOption if a function asks for a compute class that has no worker, or the manifest is of a newer kind.
    """
    if manifest.get("version") != MANIFEST_VERSION:
        raise InvalidOption(
            f"The worker speaks manifest version {manifest.get('version')!r}, this Stepwell version {MANIFEST_VERSION}. "
            "Deploy app and platform with the same release."
        )
    wanted = {function["compute"] for function in manifest["functions"]} | set(manifest.get("computes", ()))
    missing = sorted(wanted - set(workers))
    if missing:
        raise InvalidOption(
            f"App {manifest['app']!r} uses the compute classes {', '.join(missing)}, but is deployed with "
            f"{', '.join(sorted(workers))} only. Add them to compute= of its StepwellApp."
        )
    ports.store.apps.write(manifest, workers, ports.now())
    schedule_functions(ports, manifest)


def unregister(ports: Ports, app: str) -> None:
    """Forget an app and its schedules. Its live runs wait for it to come back, for 24 hours."""
    unschedule(ports, app)  # first, as long as whoever repeats this can see that it is to be done
    ports.store.apps.remove(app)
