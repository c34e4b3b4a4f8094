"""The engine. Who does what:

intake       the consumer: messages of the main queue become records for the orchestrator, or dead letters
orchestrate  the orchestrator: one record after the other
accept       an event: recorded, matched, its runs created
resolve      a wait: resolved from outside, once
wake         a run: dispatched, woken, reclaimed from a dead worker
ending       a run: ended, its followers told
sweep        the sweeper: whatever is overdue
registration an app: its manifest written at deploy
execution    the worker: one invocation of one run
"""
