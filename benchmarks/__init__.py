"""What we claim about speed and quality, measured: ``make bench``, or ``python -m benchmarks.NAME``."""
