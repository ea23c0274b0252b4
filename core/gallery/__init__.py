"""Trained runs that ship with the code, one folder each, as any other run's; ``python -m core.gallery`` makes them."""
