"""Ninety thousand prices pushed to a flaky API, one step a batch."""
