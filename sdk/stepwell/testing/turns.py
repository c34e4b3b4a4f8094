"""Whose turn it is: many real threads, of which one runs at a time, in an order that a seed decides.

Every simulated Lambda invocation, and every thread the engine starts in one, is a *participant*. The one that holds the
turn runs; all others wait. The turn passes on at calls to AWS, where threads begin and end, and where one waits for
another. Who comes next is drawn from the seed among those who could go on, so a test has one order, the same each time,
and another seed finds other interleavings.

What we cannot see must not hang us: a holder that blocks in the operating system without telling (two steps meeting at
a barrier, `time.sleep`, a subprocess) loses the turn after `patience` seconds of real time and queues for it again at
its next call to AWS. Only then does the order depend on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from random import Random
from typing import Any

from stepwell.testing.invocations import Crash, Invocation, acting_as
from stepwell.testing.watchdog import PATIENCE, Watch


class _State(Enum):
    READY = "queues for the turn"
    RUNNING = "holds the turn, or lost it to the watchdog"
    WAITING = "waits for something another one does"
    AWAY = "blocks in the operating system, and said so"
    DONE = "ended"


class _Participant:
    """One thread that takes part, and the lock that wakes it when it gets the turn."""

    __slots__ = ("doomed", "gate", "group", "loops", "name", "native_id", "state")

    def __init__(self, name: str, group: Invocation | None) -> None:
        self.name = name
        self.group = group
        self.state = _State.READY
        self.gate = threading.Lock()
        self.gate.acquire()
        self.native_id: int | None = None
        self.doomed = False
        self.loops: list[asyncio.AbstractEventLoop] = []  # that were running in it when it died


class Turns:
    """The scheduler of one world; also what the engine knows as its `Threads`."""

    def __init__(self, random: Random, *, patience: float = PATIENCE) -> None:
        self._random = random
        self._patience = patience
        self._mutex = threading.Lock()
        self._local = threading.local()
        self._holder: _Participant | None = None
        self._turn = 0  # grows whenever the turn passes, so that a waiter can tell a holder that never lets go
        self._changes = 0  # grows with every notify, so that none is missed between looking and waiting
        self._ready: list[_Participant] = []
        self._waiting: list[_Participant] = []
        self._members: dict[Invocation | None, list[_Participant]] = {}
        self._threads: list[threading.Thread] = []
        self._loops: weakref.WeakKeyDictionary[Any, _Participant] = weakref.WeakKeyDictionary()
        self._outsiders = threading.Condition()
        self.steals = 0
        """How often the watchdog had to act; 0 means that the order was decided by the seed alone."""

    # ---- the Threads protocol

    def spawn(self, target: Callable[[], None], *, name: str) -> None:
        """Run `target` in a thread of its own, in the caller's invocation. The caller may lose the turn here."""
        me = self._me()
        self.start(target, name=name, group=me.group if me is not None else None)
        self.pause()

    def wait_until(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Block the caller until `ready()` holds or `timeout` real seconds passed; says whether it holds.

        Raises `Crash` if the caller's invocation dies meanwhile.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        me = self._me()
        if me is None:
            return self._wait_outside(ready, deadline)
        while True:
            seen = self._changes
            if ready():
                return True
            with self._mutex:
                self._refuse_if_doomed(me)
                if self._changes != seen:
                    continue
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                me.state = _State.WAITING
                self._waiting.append(me)
                self._let_go(me)
            self._await_turn(me, deadline)

    def notify(self) -> None:
        """What some `ready()` of this invocation looks at may have changed."""
        me = self._me()
        self.wake(me.group if me is not None else None, everyone=me is None)

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Gives the turn away while the caller blocks in the operating system, and queues for it again afterwards."""
        me = self._me()
        if me is None:
            yield
            return
        self._watch_event_loop(me)
        with self._mutex:
            self._refuse_if_doomed(me)
            me.state = _State.AWAY
            self._let_go(me)
        try:
            yield
        finally:
            with self._mutex:
                self._come_back(me)
            self._await_turn(me)

    # ---- for the world

    def start(self, target: Callable[[], None], *, name: str, group: Invocation | None) -> None:
        """Add a thread that will run `target` when the turn comes to it. Does not pass the turn."""
        participant = _Participant(name, group)
        thread = threading.Thread(target=self._live, args=(participant, target), name=name, daemon=True)
        with self._mutex:
            if len(self._threads) >= 64:
                self._threads = [known for known in self._threads if known.is_alive()]
            self._threads.append(thread)
            self._members.setdefault(group, []).append(participant)
            self._queue(participant)
            thread.start()

    @contextmanager
    def driving(self) -> Iterator[None]:
        """The calling thread takes part for the duration, under the group None; it starts with the turn."""
        if self._me() is not None:
            raise RuntimeError("the world is driven already: a step or a handler cannot drive it")
        me = _Participant("driver", None)
        me.native_id = threading.get_native_id()
        with self._mutex:
            self._members.setdefault(None, []).append(me)
            self._queue(me)
        self._local.me = me
        try:
            self._await_turn(me)
            yield
        finally:
            self._local.me = None
            with self._mutex:
                self._leave(me)

    @contextmanager
    def member_of(self, group: Invocation) -> Iterator[None]:
        """The calling thread acts for `group` inside: a handler that is invoked synchronously by another."""
        me = self._me()
        with acting_as(group):
            if me is None:
                yield
                return
            before = me.group
            with self._mutex:
                me.group = group
                self._members.setdefault(group, []).append(me)
            try:
                yield
            finally:
                with self._mutex:
                    self._forget(me)
                    me.group = before
                    me.doomed = before is not None and before.dead

    def pause(self) -> None:
        """A point at which the turn may pass. Costs next to nothing while nobody else could run.

        Raises `Crash` if the caller's invocation has died.
        """
        me = self._me()
        if me is None:
            return
        if me is self._holder and not self._ready and not me.doomed:
            return
        with self._mutex:
            self._refuse_if_doomed(me)
            me.state = _State.READY
            self._ready.append(me)
            if me is self._holder or self._holder is None:
                self._pass_on()
        self._await_turn(me)

    def wake(self, group: Invocation | None, *, everyone: bool = False) -> None:
        """Let those of `group` who wait look again (with `everyone`: all who wait)."""
        with self._mutex:
            self._changes += 1
            for participant in [one for one in self._waiting if everyone or one.group is group]:
                self._waiting.remove(participant)
                self._queue(participant)
        with self._outsiders:
            self._outsiders.notify_all()

    def doom(self, group: Invocation) -> None:
        """Kill an invocation: each of its threads raises `Crash` as soon as it would go on."""
        group.dead = True
        with self._mutex:
            members = list(self._members.get(group, ()))
            for participant in members:
                participant.doomed = True
                if participant.state is _State.WAITING:
                    self._waiting.remove(participant)
                    self._queue(participant)
            loops = [loop for loop, participant in self._loops.items() if participant in members]
        for loop in loops:
            # A loop that sleeps in select() sees nothing of all this until something wakes it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: None)

    def bury(self) -> None:
        """The caller's process has died: close the event loops that ran in its thread, as its end would have."""
        me = self._me()
        for loop in me.loops if me is not None else ():
            if not loop.is_closed() and not loop.is_running():
                loop.set_exception_handler(lambda *_: None)
                loop.close()

    def members(self, group: Invocation) -> list[str]:
        """The names of the threads of `group` that have not ended."""
        with self._mutex:
            return [participant.name for participant in self._members.get(group, ())]

    def companions(self, group: Invocation) -> list[str]:
        """The same, without the caller."""
        me = self._me()
        with self._mutex:
            return [participant.name for participant in self._members.get(group, ()) if participant is not me]

    def join(self, seconds: float) -> list[str]:
        """Wait for all threads to end, at most `seconds` of real time in all; the names of those that did not."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    # ---- how it works

    def _me(self) -> _Participant | None:
        return getattr(self._local, "me", None)

    def _live(self, me: _Participant, target: Callable[[], None]) -> None:
        me.native_id = threading.get_native_id()
        self._local.me = me
        try:
            # Only the invocation is passed on, no other context variable: a thread in Lambda would not inherit them.
            with acting_as(me.group):
                self._await_turn(me)
                target()
        except Crash:
            pass
        finally:
            self._local.me = None
            with self._mutex:
                self._leave(me)

    def _leave(self, me: _Participant) -> None:
        me.state = _State.DONE
        self._forget(me)
        if me in self._ready:
            self._ready.remove(me)
        self._changes += 1
        for participant in [one for one in self._waiting if one.group is me.group]:
            self._waiting.remove(participant)
            self._queue(participant)
        if self._holder is me:
            self._pass_on()

    def _forget(self, me: _Participant) -> None:
        members = self._members[me.group]
        members.remove(me)
        if not members:
            del self._members[me.group]

    def _refuse_if_doomed(self, me: _Participant) -> None:
        if me.doomed:
            with contextlib.suppress(RuntimeError):
                me.loops.append(asyncio.get_running_loop())
            raise Crash

    def _queue(self, participant: _Participant) -> None:
        participant.state = _State.READY
        self._ready.append(participant)
        if self._holder is None:
            self._pass_on()

    def _let_go(self, me: _Participant) -> None:
        if self._holder is me:
            self._pass_on()

    def _come_back(self, me: _Participant) -> None:
        if me.state is _State.AWAY:
            self._queue(me)

    def _pass_on(self) -> None:
        """Give the turn to one of those who queue. The only place where it changes hands."""
        self._turn += 1
        if not self._ready:
            self._holder = None
            return
        index = self._random.randrange(len(self._ready)) if len(self._ready) > 1 else 0
        chosen = self._ready.pop(index)
        chosen.state = _State.RUNNING
        self._holder = chosen
        chosen.gate.release()

    def _await_turn(self, me: _Participant, deadline: float | None = None) -> None:
        """Block until the turn is mine, or (waiting with a deadline) until that has passed and the turn is mine."""
        watch = Watch(self._turn)
        while not me.gate.acquire(timeout=self._nap(me, deadline)):
            with self._mutex:
                if me.state is _State.WAITING:
                    if deadline is not None and time.monotonic() >= deadline:
                        self._waiting.remove(me)
                        self._queue(me)
                elif me.state is _State.READY and self._holder is not None:
                    if self._turn != watch.turn:
                        watch = Watch(self._turn)
                    elif watch.finds_stuck(self._holder.native_id, self._patience):
                        self.steals += 1
                        self._pass_on()
        self._refuse_if_doomed(me)

    def _nap(self, me: _Participant, deadline: float | None) -> float:
        # One who waits may be queued by another while it sleeps here, and must then watch the holder as well.
        if deadline is None or me.state is not _State.WAITING:
            return self._patience / 2
        return min(self._patience / 2, max(0.0, deadline - time.monotonic()))

    def _wait_outside(self, ready: Callable[[], bool], deadline: float | None) -> bool:
        """For threads that are none of ours, such as one a step made itself."""
        while not ready():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            with self._outsiders:
                self._outsiders.wait(0.05 if left is None else min(left, 0.05))
        return True

    def _watch_event_loop(self, me: _Participant) -> None:
        """Learn at once when another thread wakes the event loop that `me` is about to sleep in.

        The operating system needs a moment to wake it. If the turn passed on in that moment, the order would depend on
        how long it took; so the loop's thread queues for the turn when it is called, not when it wakes.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if loop not in self._loops:
            call = loop.call_soon_threadsafe

            def call_soon_threadsafe(*args: Any, **kwargs: Any) -> Any:
                handle = call(*args, **kwargs)
                with self._mutex:
                    owner = self._loops.get(loop)
                    if owner is not None:
                        self._come_back(owner)
                return handle

            try:
                loop.call_soon_threadsafe = call_soon_threadsafe  # type: ignore[method-assign, assignment]
            except AttributeError:
                return  # a loop written in C: it merely wakes a little later
        with self._mutex:
            self._loops[loop] = me
