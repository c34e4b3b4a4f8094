"""How fast Stepwell is and what it costs: `make bench`, or `python -m bench overhead emulator coldstart growth cost`.

Every figure stands beside its target. None of them comes from AWS itself: docs/benchmarks.md says what they show and
what they do not.
"""
