"""Example pipelines, each a small program of its own: start from `README.md`, read `app.py`, watch `demo.py`."""
