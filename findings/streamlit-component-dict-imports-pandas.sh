#!/usr/bin/env bash
# A component of Streamlit (v2) that is given plain lists in a dict makes the server import pandas; in a list, it does not.
#
# Expected: data of texts, numbers and lists go to the browser as JSON, and nothing else is needed for that.
# Seen: every value at the first level of a dict that is a list or a dict is asked whether it is a table, for which
#   pandas and pyarrow are imported (0.2 s of CPU time in the first view of a page), and a chain of some thirty type
#   checks runs per value and rerun. The same dict inside a list is sent as JSON at once. Texts, numbers, booleans and
#   tuples in a dict are passed over as well.
# Met where the first view of a dashboard has a component and no table. What helps: mount(data=[data]), and take the
#   first element in the script.
# Versions: streamlit 1.67.0, Python 3.11, Linux x86-64. Date: 2026-11-30.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check streamlit==1.67.0
cat > "$tmp/page.py" <<'PYTHON'
import json
import sys

import streamlit as st

mount = st.components.v2.component("box", html="<p></p>", js="export default function () {}")
mount(key="box", data=json.loads(sys.argv[1]))
PYTHON
cat > "$tmp/check.py" <<'PYTHON'
import json
import subprocess
import sys

VIEW = """
import sys
from streamlit.testing.v1 import AppTest
seen = AppTest.from_file(sys.argv[2], default_timeout=60).run()
assert not seen.exception, seen.exception
print("pandas" in sys.modules)
"""
rows = {
    '{"points": [1, 2]}': "True",
    '{"at": {"x": 1}}': "True",
    '{"name": "a", "size": 2}': "False",
    '[{"points": [1, 2], "at": {"x": 1}}]': "False",
}
differs = False
for data, seen in rows.items():
    asked = [sys.executable, "-c", VIEW, data, sys.argv[1]]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[-1]
    print(f"{data:40} pandas imported: {told}")
    differs |= told != seen
sys.exit(differs)
PYTHON
"$tmp/venv/bin/python" "$tmp/check.py" "$tmp/page.py"
