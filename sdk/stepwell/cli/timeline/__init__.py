"""Timelines: runs as lanes, read from the table (`recorded`) or watched as they happen (`story`), drawn by `drawing`."""
