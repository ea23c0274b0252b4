"""What pages have for one medium alone; each file is one medium, of its name, and :mod:`pages.parts.own` finds it."""
