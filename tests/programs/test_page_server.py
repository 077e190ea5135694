"""The server of the live page's files, where the broker does not serve them itself."""

from __future__ import annotations

import socket
import time

import httpx
import pytest

from fedjury.gateway.serving import PatientProtocol
from fedjury.monitor.web.serving import served

BROKER = "ws://127.0.0.1:9001"


@pytest.fixture
def page():
    """Serve the page, and yield a client of it."""
    with served(BROKER) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def test_the_address_leads_to_the_page_of_the_broker(page):
    """Whoever opens it is sent on to the page, which is told where the broker is."""
    answer = page.get("/")
    assert (answer.status_code, answer.headers["location"]) == (
        302,
        f"/index.html?broker={BROKER}",
    )
    html = page.get(answer.headers["location"])
    assert html.headers["content-type"].startswith("text/html")
    assert "Content-Security-Policy" in html.text


def test_a_browser_asks_only_whether_a_file_is_new(page):
    """A file that it has already comes with no content."""
    tag = page.get("/app.js").headers["etag"]
    again = page.get("/app.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/vendor/", "/none.js", "/../serving.py", "/%2e%2e/serving.py", "/..%2fserving.py"]
)
def test_nothing_else_is_served(page, path):
    """No list of a folder, and no file outside the page's."""
    with socket.create_connection((page.base_url.host, page.base_url.port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: us\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 404 ")


def test_whoever_asks_for_nothing_is_hung_up_on(monkeypatch):
    """A connection on which no whole request comes ends, however often a byte does."""
    monkeypatch.setattr(PatientProtocol, "silent", 0.3)
    monkeypatch.setattr(PatientProtocol, "look", 0.1)
    with served(BROKER) as url:
        host, port = url[7:-1].split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.settimeout(0.05)
            for _ in range(100):
                try:
                    connection.sendall(b"G")
                    if connection.recv(100) == b"":
                        return
                except TimeoutError:
                    time.sleep(0.01)
                except OSError:
                    return
    pytest.fail("the connection is still open")
