"""The tests shown in docs/testing.md, run as they stand."""

from docs.snippets.test_onboarding import *  # noqa: F403
