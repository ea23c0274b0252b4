"""One file per check, or per group of checks that go together."""
