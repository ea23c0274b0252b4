#!/usr/bin/env bash
# A callback that sets a control and ends with st.rerun("key") is seen once: the browser still shows, and then sends, the
# value from before.
#
# Expected: what a callback writes into st.session_state is the control's value from then on, as without the rerun.
# Seen: the run that st.rerun("part") asks for has the new value (the page says "number 5"), but the field goes on to show
#   0, and the next press of any button brings 0 back. Without st.rerun("part") in the callback the field shows 5 and
#   keeps it. AppTest knows no browser and shows nothing of it.
# Met where a button of one fragment sets controls of another and lets that one run. What helps: to write the values
#   elsewhere in the session, and to set the controls when the fragment draws them.
# Versions: streamlit 1.67.0, playwright 1.65.2, Chromium 156, Python 3.11, Linux x86-64. Date: 2026-12-01.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check streamlit==1.67.0 playwright==1.65.2
cat > "$tmp/page.py" <<'PYTHON'
import streamlit as st


def five():
    st.session_state["number"] = 5
    if "plain" not in st.query_params:
        st.rerun("part")


@st.fragment(key="part")
def part():
    number = st.number_input("Number", value=0, step=1, key="number")
    st.button("Five", on_click=five)
    st.button("Nothing")
    st.code(f"number {number}")


part()
PYTHON
cat > "$tmp/check.py" <<'PYTHON'
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from time import sleep

from playwright.sync_api import expect, sync_playwright

here, address = Path(sys.argv[1]), "http://127.0.0.1:8599"
options = ["--server.port", "8599", "--server.address", "127.0.0.1", "--server.headless", "true"]
words = [sys.executable, "-m", "streamlit", "run", here / "page.py", *options]
server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health")
            break
        except OSError:
            sleep(0.2)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        told = {}
        for way in ("plain", "rerun"):
            page = browser.new_page()
            page.goto(f"{address}/?{way}=1")
            expect(page.locator("code")).to_contain_text("number 0", timeout=30_000)
            told[way] = []
            for button in ("Five", "Nothing"):
                page.get_by_role("button", name=button).click()
                sleep(3)
                field = page.get_by_role("spinbutton").input_value()
                told[way].append((page.locator("code").inner_text(), field))
            print(f"{way:6} {told[way]}")
        browser.close()
finally:
    server.terminate()
    server.wait()
kept, lost = [("number 5", "5")] * 2, [("number 5", "0"), ("number 0", "0")]
sys.exit(told != {"plain": kept, "rerun": lost})
PYTHON
"$tmp/venv/bin/python" "$tmp/check.py" "$tmp"
