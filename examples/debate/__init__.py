"""An eight-step AI video pipeline, written with async functions."""
