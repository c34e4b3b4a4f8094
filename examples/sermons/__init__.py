"""Recorded sermons become text that can be read along, and a library that can be searched."""
