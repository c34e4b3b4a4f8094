"""The registered apps: what their functions listen to and which Lambdas run them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stepwell.codec import dumps, loads, squeeze
from stepwell.errors import PayloadTooLarge
from stepwell.payloads import Payloads
from stepwell.store import layout
from stepwell.store.table import Table

MOST = 390_000
"""Bytes of what is registered of an app: some thousands of functions. An item may have 409,600 (DynamoDB quotas)."""


@dataclass(frozen=True, slots=True)
class AppRecord:
    """A registered app."""

    id: str
    manifest: Mapping[str, Any]
    workers: Mapping[str, str]
    """Compute class to the ARN of the worker Lambda."""
    registered: int
    retired: tuple[str, ...]
    """Functions of earlier deployments."""
    since: int
    """When it was first registered, milliseconds."""
    paused: frozenset[str] = frozenset()
    """Functions whose starts wait, declared or not."""

    @property
    def functions(self) -> list[dict[str, Any]]:
        """The declared functions; those that are paused say so."""
        return [
            {**entry, "paused": True} if entry["id"] in self.paused else entry for entry in self.manifest["functions"]
        ]

    @property
    def known_functions(self) -> list[dict[str, Any]]:
        """The declared functions, and those of earlier deployments whose runs may still be asked for."""
        return self.functions + [{"id": function} for function in self.retired]

    def function(self, function: str) -> dict[str, Any] | None:
        """One declared function."""
        return next((entry for entry in self.functions if entry["id"] == function), None)


def entry_of(apps: Mapping[str, AppRecord], app: str, function: str) -> dict[str, Any] | None:
    """A function as it is declared now, None if it or its app is gone."""
    return apps[app].function(function) if app in apps else None


def gates_of(apps: Mapping[str, AppRecord], app: str, function: str) -> Mapping[str, Any]:
    """A function as far as its gates go by it. One that is gone has no gates, but it may be paused all the same."""
    entry = entry_of(apps, app, function)
    if entry is None and app in apps and function in apps[app].paused:
        return {"id": function, "paused": True}
    return entry or {}


class Apps:
    """The manifests, cached for as long as the version counter stands still."""

    def __init__(self, table: Table, payloads: Payloads) -> None:
        self._table = table
        self._payloads = payloads
        self._version: int | None = None
        self._apps: dict[str, AppRecord] = {}

    @property
    def known(self) -> Mapping[str, AppRecord]:
        """All apps as they were last read; for whoever has just asked for `current`."""
        return self._apps

    def worker(self, app: str, compute: str) -> str | None:
        """The ARN of the Lambda that runs this app's functions of this compute class, None if there is none.

        Answered from the cache if it can be: the ARN of a worker does not change from deploy to deploy.
        """
        for fresh in (False, True):
            apps = self.current()[0] if fresh else self._apps
            if app in apps and compute in apps[app].workers:
                return apps[app].workers[compute]
        return None

    def current(self, event_names: Iterable[str] = ()) -> tuple[dict[str, AppRecord], dict[tuple[str, str], set[str]]]:
        """All apps, and the paths waited on for these events by (app, event name), in one request as a rule.

        Strongly consistent, so an app is listened to from the moment its deployment is complete.
        """
        names = list(event_names)
        while True:
            known = self._version
            keys = [(layout.APP_PK, layout.VERSION_SK)]
            keys += [(layout.paths_pk(app, name), layout.PATHS_SK) for app in self._apps for name in names]
            items = {item["pk"]: item for item in self._table.batch_get(keys)}
            version = items.get(layout.APP_PK, {}).get("version", 0)
            if version == known:
                break
            self._apps = {record.id: record for record in self._read()}
            self._version = version
        paths = {
            (app, name): set(item["paths"])
            for app in self._apps
            for name in names
            if (item := items.get(layout.paths_pk(app, name)))
        }
        return self._apps, paths

    def _read(self) -> Iterable[AppRecord]:
        items = list(self._table.query(layout.APP_PK))
        paused = {item["sk"].removeprefix(layout.PAUSED_PREFIX) for item in items}
        for item in items:
            if not item["sk"].startswith("APP#"):
                continue
            app = item["sk"].removeprefix("APP#")
            yield AppRecord(
                id=app,
                # Earlier releases put large ones into the bucket; they move here when their app is deployed again.
                manifest=loads(self._payloads.unpack(item["manifest"])),
                workers=item["workers"],
                registered=item["registered"],
                retired=tuple(item.get("retired", ())),
                since=item["since"],
                paused=frozenset(name.partition("/")[2] for name in paused if name.partition("/")[0] == app),
            )

    def write(self, manifest: Mapping[str, Any], workers: Mapping[str, str], now: int) -> None:
        """Register an app, replacing its manifest. The counter moves last: who sees it move reads the new manifest.

        All of it stands in one item, whatever its size: the bucket deletes by age, and an app may live for years without
        being deployed. Raises PayloadTooLarge if an item cannot hold it.
        """
        app = manifest["app"]
        before = self._table.get(layout.APP_PK, layout.app_sk(app)) or {}
        declared = [function["id"] for function in manifest["functions"]]
        known = before.get("declared", []) + before.get("retired", [])
        retired, packed = sorted(set(known) - set(declared)), squeeze(dumps(manifest), 0)
        size = len(packed) + len(dumps([declared, retired, dict(workers)]))
        if size > MOST:
            raise PayloadTooLarge(
                f"What is to be registered of app {app!r} ({len(declared):,} functions) is {size:,} bytes, compressed; the "
                f"limit is {MOST:,}, what an item of DynamoDB holds. Divide its functions among several apps."
            )
        self._table.put(
            {
                "pk": layout.APP_PK,
                "sk": layout.app_sk(app),
                "manifest": packed,
                "workers": dict(workers),
                "registered": now,
                "declared": declared,
                "retired": retired or None,
                "since": before.get("since", now),
            }
        )
        self._bump()

    def pause(self, app: str, function: str, now: int) -> None:
        """Let the starts of a function wait from now on; a deployment does not change that."""
        self._table.put({"pk": layout.APP_PK, "sk": layout.paused_sk(app, function), "since": now})
        self._bump()

    def resume(self, app: str, function: str) -> None:
        """Let them start again."""
        self._table.delete(layout.APP_PK, layout.paused_sk(app, function))
        self._bump()

    def remove(self, app: str) -> None:
        """Forget an app. Its runs stay."""
        self._table.delete(layout.APP_PK, layout.app_sk(app))
        self._bump()

    def _bump(self) -> None:
        self._table.update(layout.APP_PK, layout.VERSION_SK, add={"version": 1}, returning="NONE")
