#!/usr/bin/env bash
# st.file_uploader(accept_multiple_files="directory") gives paths for a folder that is chosen, and bare names for one that
# is dropped.
#
# Expected: the name of each file is its path inside the folder ("people/owl/1.png"), as the documentation says of
#   directory uploads, however the folder came.
# Seen: chosen with the button, it is; dropped on the same widget ("Drag and drop directories here"), the name is "1.png",
#   so folders that mean classes are lost, and files of one name in two folders cannot be told apart. The browser's script
#   reads webkitRelativePath, which is empty for what was dropped.
# Met where folders of pictures are uploaded as classes. What helps: to tell the visitor when no name has a slash.
# Versions: streamlit 1.67.0, playwright 1.65.2, Chromium 156, Python 3.11, Linux x86-64. Date: 2026-12-01.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check streamlit==1.67.0 playwright==1.65.2
mkdir -p "$tmp/people/owl"
echo 1 > "$tmp/people/owl/1.png"
cat > "$tmp/page.py" <<'PYTHON'
import streamlit as st

files = st.file_uploader("Folder", accept_multiple_files="directory")
st.code(repr([file.name for file in files]))
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
        for way in ("chosen", "dropped"):
            page = browser.new_page()
            page.goto(address)
            zone = page.get_by_test_id("stFileUploaderDropzone")
            if way == "chosen":
                with page.expect_file_chooser() as chooser:
                    zone.locator("button").first.click()
                chooser.value.set_files(here / "people")
            else:
                box, session = zone.bounding_box(), page.context.new_cdp_session(page)
                data = {"items": [], "files": [str(here / "people")], "dragOperationsMask": 1}
                for kind in ("dragEnter", "dragOver", "drop"):
                    place = {"x": box["x"] + 20, "y": box["y"] + 10}
                    session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
            expect(page.locator("code")).to_contain_text("png", timeout=20_000)
            told[way] = page.locator("code").inner_text()
            print(f"{way:8} {told[way]}")
        browser.close()
finally:
    server.terminate()
    server.wait()
sys.exit(told != {"chosen": "['people/owl/1.png']", "dropped": "['1.png']"})
PYTHON
"$tmp/venv/bin/python" "$tmp/check.py" "$tmp"
