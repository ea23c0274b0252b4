"""docs/nginx.conf in front of the app: the login, the WebSocket, uploads and what browsers are told."""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "simulacra.example.org"
MB = 2**20
LIMIT = 2  # MB of an upload, instead of 200


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"{process.args} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@dataclass
class Site:
    """The app behind nginx."""

    app: int  # port
    proxy: int
    home: Path
    password: str = "Basic " + base64.b64encode(b"anna:ahoi").decode()

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Any = None,
        past: bool = False,
        **headers: str,
    ) -> http.client.HTTPResponse:
        """Sends a request through the proxy, or past it; `Authorization=""` comes without a password."""
        if past:
            connection = http.client.HTTPConnection("127.0.0.1", self.app, timeout=60)
        else:
            trusting = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.proxy, timeout=60, context=trusting
            )
        known = {"Host": f"{NAME}:{self.proxy}", "Authorization": self.password}
        sent = known | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {k: v for k, v in sent.items() if v})
        answer = connection.getresponse()
        answer.text = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def opened(self, *, past: bool = False, **headers: str) -> int:
        """Asks for a WebSocket as a browser does; gives the status, 101 for a connection."""
        where = headers.get("Host", f"{NAME}:{self.proxy}")
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Protocol": "streamlit",
            "Origin": f"http{'' if past else 's'}://{where}",
        }
        return self.ask("/_stcore/stream", past=past, **(upgrade | headers)).status


@pytest.fixture(scope="module")
def nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not (found and shutil.which("openssl") and shutil.which("make")):
        pytest.skip("There is no nginx. Install the package `nginx-light` to run these tests.")
    return found


@pytest.fixture(scope="module")
def app(nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The app as `make app` starts it for a proxy, with small uploads."""
    folder, port = tmp_path_factory.mktemp("app"), free_port()
    asked = [
        "make",
        "-n",
        "app",
        f"HOSTS={NAME}",
        f"PORT={port}",
        f"ARGS=--server.maxUploadSize {LIMIT}",
    ]
    lines = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = shlex.split(lines[lines.rindex("exec ") :].replace("\\\n", " "))[2:]
    env = {k: v for k, v in os.environ.items() if not k.startswith("SIMULACRA_")}
    env |= {
        "SIMULACRA_HOME": str(folder / "home"),
        "STREAMLIT_SERVER_TRUSTED_USER_HEADERS": '{"X-Forwarded-User": "email"}',
    }
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=env, stdout=log, stderr=log
        )
    try:
        until_it_listens(port, process, folder / "log.txt")
        yield port, folder / "home"
    finally:
        ended(process)
        for state in (folder / "home" / "jobs").glob("*/state.json"):
            with suppress(OSError, KeyError):
                os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)


def configured(folder: Path, app: int, *changes: tuple[str, str]) -> tuple[str, int]:
    """Gives docs/nginx.conf with the places of this test, and its port."""
    port = free_port()
    text = (ROOT / "docs" / "nginx.conf").read_text("utf-8")
    for old, new in (
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/certs/simulacra.pem", str(folder / "cert.pem")),
        ("/etc/ssl/private/simulacra.key", str(folder / "key.pem")),
        ("/etc/nginx/simulacra.passwords", str(folder / "passwords")),
        ("127.0.0.1:8501", f"127.0.0.1:{app}"),
        ("200m", f"{LIMIT}m"),
        *changes,
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    temporary = "\n".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\n{text}\n}}\n",
        port,
    )


def serving(nginx: str, folder: Path, app: int, *changes: tuple[str, str]) -> Iterator[int]:
    """Starts nginx; gives its port."""
    make = "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem"
    subprocess.run(
        ["openssl", *make.split(), "-subj", f"/CN={NAME}"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "ahoi"], check=True, capture_output=True, text=True
    )
    (folder / "passwords").write_text(f"anna:{hashed.stdout}")
    folder.chmod(0o755)
    text, port = configured(folder, app, *changes)
    (folder / "nginx.conf").write_text(f"user {'root' if os.geteuid() == 0 else 'nobody'};\n{text}")
    with (folder / "log.txt").open("wb") as log:
        command = [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until_it_listens(port, process, folder / "log.txt")
        yield port
    finally:
        ended(process)


@pytest.fixture(scope="module")
def site(
    nginx: str, app: tuple[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    for port in serving(nginx, tmp_path_factory.mktemp("nginx"), app[0]):
        yield Site(app[0], port, app[1])


def test_nobody_gets_in_without_the_password(site):
    for path in ("/", "/train", "/_stcore/health", "/_stcore/host-config", "/static/index.html"):
        assert site.ask(path, Authorization="").status == 401, path
        assert site.ask(path).status == 200, path
    assert site.opened(Authorization="") == 401
    wrong = "Basic " + base64.b64encode(b"anna:ahoj").decode()
    assert site.ask("/", Authorization=wrong).status == 401


def test_the_websocket_opens_for_the_public_name_and_for_no_other(site):
    assert site.opened() == 101
    assert site.opened(Host="evil.example.org", Origin="https://evil.example.org") == 403
    assert site.opened(Origin="https://evil.example.org") == 403
    # nor past the proxy, for a page whose name was made to point to this computer
    assert site.opened(past=True, Host=f"evil.example.org:{site.app}") == 403
    assert site.opened(past=True, Host=f"127.0.0.1:{site.app}") == 101


def test_a_proxy_that_does_not_pass_the_host_is_refused(nginx, app, tmp_path):
    without = ("proxy_set_header Host             $http_host;", "")
    for port in serving(nginx, tmp_path, app[0], without):
        assert Site(app[0], port, app[1]).opened() == 403


def test_the_proxy_gives_the_visitors_name_and_nothing_that_they_made_up(nginx, tmp_path):
    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(dict(self.headers)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as echo:
        threading.Thread(target=echo.serve_forever, daemon=True).start()
        for port in serving(nginx, tmp_path, echo.server_port):
            site = Site(0, port, tmp_path)
            made_up = {"X_Forwarded_User": "root", "Upgrade": "websocket", "Connection": "Upgrade"}
            got = json.loads(site.ask("/", **made_up).text)  # type: ignore[attr-defined]
            assert got["X-Forwarded-User"] == "anna"
            assert "root" not in got.values()
            assert "Authorization" not in got
            assert got["Host"] == f"{NAME}:{port}"
            assert (got["Upgrade"], got["Connection"]) == ("websocket", "upgrade")
        echo.shutdown()


def test_browsers_are_told_what_protects_them_also_with_a_refusal(site):
    for answer in site.ask("/"), site.ask("/", Authorization=""):
        told = dict(answer.getheaders())
        assert told["Strict-Transport-Security"] == "max-age=31536000"
        assert told["X-Frame-Options"] == "SAMEORIGIN"
        assert told["X-Content-Type-Options"] == "nosniff"
        assert told["Referrer-Policy"] == "same-origin"


def test_an_upload_passes_up_to_the_limit_and_not_a_byte_more(site, chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"],
        )
        context = browser.new_context(
            ignore_https_errors=True,
            http_credentials={"username": "anna", "password": "ahoi"},
        )
        page = context.new_page()
        page.goto(f"https://{NAME}:{site.proxy}/train")
        page.get_by_role("heading", level=1).first.wait_for(timeout=90_000)
        # the visitor's name is in what they start
        page.locator(".st-key-train-start button").click()
        end = time.monotonic() + 60
        while not (jobs := list(site.home.glob("jobs/2*/job.json"))) and time.monotonic() < end:
            page.wait_for_timeout(100)
        assert json.loads(jobs[0].read_text())["who"] == "anna"
        page.goto(f"https://{NAME}:{site.proxy}/data")
        page.get_by_text("Bring your own pictures").click(timeout=90_000)
        chooser = page.locator("input[type=file]").first
        with page.expect_response(
            lambda r: r.request.method == "PUT" and "upload_file" in r.url, timeout=90_000
        ) as sent:
            chooser.set_input_files(
                {"name": "a.zip", "mimeType": "application/zip", "buffer": b"PK"}
            )
        assert sent.value.status == 204
        address = sent.value.url.partition(f":{site.proxy}")[2]
        cookies = {c["name"]: c["value"] for c in context.cookies()}
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "X-Xsrftoken": sent.value.request.headers.get("x-xsrftoken", ""),
        }

        def put(size: int, **past: bool) -> tuple[int, bool]:
            wrap = (
                b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n',
                b"\r\n--x--\r\n",
            )
            body = wrap[0] + bytes(size - len(wrap[0]) - len(wrap[1])) + wrap[1]
            kind = "multipart/form-data; boundary=x"
            answer = site.ask(
                address, method="PUT", body=body, Content_Type=kind, **past, **headers
            )
            return answer.status, b"nginx" in answer.text  # type: ignore[attr-defined]

        assert put(LIMIT * MB) == (204, False)
        assert put(LIMIT * MB + 1) == (413, True)  # which does not even pass it on
        assert put(LIMIT * MB + 1, past=True) == (413, False)
        context.close()
        browser.close()


def test_a_visit_past_the_proxy_sees_nothing(site, chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{site.app}/train")
        page.get_by_text("takes visitors through its proxy only").wait_for(timeout=90_000)
        assert page.get_by_role("heading", level=1).count() == 0
        assert page.locator("button").filter(has_text="Train").count() == 0
        browser.close()
