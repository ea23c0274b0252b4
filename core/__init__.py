"""Simulacra's engine: importable and scriptable, without a web page and, until needed, without torch."""
