"""nginx as an operator runs it: the real program with the real configuration, in front of the service or a fake."""

import gzip
import http.client
import json
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.mcp.agents import META, METADATA_URL, SETTINGS
from tests.support.issuers import write_certificate
from tests.support.nginx import (
    DEPLOY,
    MISSING,
    ORIGIN,
    ORIGINS,
    PROGRAM,
    Change,
    FakeGunicorn,
    Nginx,
    Response,
    ask,
    fake_gunicorn,
    gunicorn,
    nginx,
    uncommented,
)
from tests.support.programs import ROOT, environment, free_port, production_environment, run
from tests.support.sockets import many_descriptors
from tests.support.threads import wait_until
from tests.support.tokens import token

pytestmark = pytest.mark.skipif(not PROGRAM, reason=MISSING)

METADATA = "/.well-known/oauth-protected-resource/mcp"
FOREIGN = "https://evil.example.com"
CONFIGURATION = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
EXPOSED = {
    *("ETag", "Link", "Location", "Retry-After", "X-Next-Cursor", "X-Total-Count", "X-Request-ID"),
    *("Idempotency-Replayed", "WWW-Authenticate"),
}


@pytest.fixture(scope="module")
def service(migrated_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx, gunicorn and a migrated database."""
    folder = tmp_path_factory.mktemp("nginx")
    settings = {"JWT_ISSUER": "i", "JWT_AUDIENCE": "a", "CORS_ORIGINS": ORIGINS, **SETTINGS}
    env = production_environment(migrated_database("nginx"), **settings)
    with gunicorn(folder, env), nginx(folder) as proxy:
        yield proxy


@contextmanager
def nginx_and_fake_gunicorn(folder: Path, *changes: Change) -> Iterator[tuple[Nginx, FakeGunicorn]]:
    with fake_gunicorn(folder) as server, nginx(folder, *changes) as proxy:
        yield proxy, server


def signed(user: str = "alice") -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user, iss='i', aud='a')}", "Content_Type": "application/json"}


def assert_error(answer: Response | None, status: int, code: str) -> Response:
    """Check the error body, the request id, and that no header is repeated."""
    assert answer
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    assert set(answer.json) == {"detail", "error_code", "status_code"}
    assert (answer.json["error_code"], answer.json["status_code"]) == (code, status)
    assert answer.json["detail"]
    assert re.fullmatch("[A-Za-z0-9._-]{1,128}", answer.headers["X-Request-ID"])
    assert_no_header_twice(answer)
    return answer


def assert_no_header_twice(answer: Response) -> None:
    names = [name.lower() for name in answer.headers]
    assert sorted(names) == sorted(set(names))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# --- Forwarding ---


def test_a_task_can_be_created_changed_and_deleted_through_nginx(service: Nginx) -> None:
    made = service.request("POST", "/api/tasks", '{"title": "Étude 任务"}'.encode(), **signed())
    assert made.status == 201
    path = made.headers["Location"]
    assert path == f"/api/tasks/{made.json['id']}"
    assert service.request("GET", path, **signed()).json == made.json
    changed = service.request("PATCH", path, '{"is_completed": true}', **signed())
    assert (changed.status, changed.json["is_completed"]) == (200, True)
    assert service.request("PUT", path, '{"title": "New"}', **signed()).json["title"] == "New"
    assert service.request("GET", path, **signed("bob")).json["error_code"] == "TASK_FORBIDDEN"
    assert [task["id"] for task in service.request("GET", "/api/tasks", **signed()).json] == [made.json["id"]]
    deleted = service.request("DELETE", path, **signed())
    assert (deleted.status, deleted.body) == (204, b"")
    assert_no_header_twice(deleted)


def test_the_errors_of_the_service_pass_unchanged(service: Nginx) -> None:
    missing = service.request("GET", "/api/tasks")
    assert missing.json["error_code"] == "TOKEN_MISSING"
    assert missing.headers["WWW-Authenticate"] == "Bearer"
    assert_no_header_twice(missing)
    assert service.request("GET", "/api/nothing").json["error_code"] == "NOT_FOUND"
    assert service.request("POST", "/api/tasks", "x", **signed()).json["error_code"] == "MALFORMED_JSON"
    unknown = service.request("DELETE", "/health/live")
    assert (unknown.status, unknown.json["error_code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "GET" in unknown.headers["Allow"]


def test_agents_and_their_errors_pass_unchanged(service: Nginx) -> None:
    called = service.request("POST", "/mcp", '{"jsonrpc": "2.0", "id": 0, "method": "ping"}', **signed())
    assert (called.status, called.json) == (200, {"jsonrpc": "2.0", "id": 0, "result": {}})
    told = service.request("POST", "/mcp", '{"jsonrpc": "2.0", "method": "notifications/initialized"}', **signed())
    assert (told.status, told.body) == (202, b"")
    modern = {"MCP_Protocol_Version": "2026-07-28"}
    for body, status, code in (("x", 400, -32700), ('{"jsonrpc": "2.0", "id": 0, "method": "x"}', 400, -32602)):
        wrong = service.request("POST", "/mcp", body, **signed(), **modern)
        assert (wrong.status, wrong.json["error"]["code"]) == (status, code)
    unknown = {"jsonrpc": "2.0", "id": 0, "method": "x", "params": {"_meta": META}}
    missing = service.request("POST", "/mcp", json.dumps(unknown), **signed(), **modern, Mcp_Method="x")
    assert (missing.status, missing.json["error"]["code"]) == (404, -32601)
    refused = service.request("POST", "/mcp", "{}")
    assert METADATA_URL in refused.headers["WWW-Authenticate"]
    for answer in (called, told, missing, refused):
        assert_no_header_twice(answer)


def test_the_metadata_for_agents_may_be_cached(service: Nginx) -> None:
    for path in ("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"):
        metadata = service.request("GET", path)
        assert metadata.json["resource"] == SETTINGS["MCP_URL"]
        assert metadata.headers["Cache-Control"] == "public, max-age=300"
        assert_no_header_twice(metadata)


@pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 1, 65 * 1024 + 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_size_limit_of_a_body_is_the_services_own(service: Nginx, size: int, chunked: bool) -> None:
    body = b'{"title": "x"}'.ljust(size)
    sent = signed("large") | ({"Transfer_Encoding": "chunked"} if chunked else {})
    answer = service.request("POST", "/api/tasks", iter([body]) if chunked else body, **sent)
    if size == 64 * 1024:
        assert answer.status == 201
    else:
        assert_error(answer, 413, "PAYLOAD_TOO_LARGE")


def test_a_body_just_over_the_limit_is_checked_after_the_token(service: Nginx) -> None:
    answer = service.request("POST", "/api/tasks", b" " * (64 * 1024 + 1), Content_Type="application/json")
    assert answer.json["error_code"] == "TOKEN_MISSING"


def test_the_request_id_of_a_client_comes_back_once_or_is_replaced(service: Nginx) -> None:
    for path in ("/health/live", "/nothing"):
        answer = service.request("GET", path, X_Request_ID="from.the-client_1")
        assert answer.headers.get_all("X-Request-ID") == ["from.the-client_1"]
        for sent in ("a b", "x" * 129, "é"):
            [replaced] = service.request("GET", path, X_Request_ID=sent).headers.get_all("X-Request-ID", [])
            assert re.fullmatch("[0-9a-f]{32}", replaced)


def test_the_service_and_the_log_have_the_id_that_the_client_gets(tmp_path: Path) -> None:
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, server):
        answer = proxy.request("GET", "/api/tasks")
        failed = proxy.request("GET", "/nothing")
    assert server.received[0][1].get_all("X-Request-ID") == answer.headers.get_all("X-Request-ID")
    assert [line["request_id"] for line in proxy.log] == [a.headers["X-Request-ID"] for a in (answer, failed)]


def test_connections_to_the_service_are_reused(tmp_path: Path) -> None:
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, server):
        for _ in range(20):
            assert proxy.request("GET", "/api/tasks").status == 200
    assert len(server.received) == 20
    assert server.connections == 1


def test_a_compressed_response_has_a_weak_etag_and_a_plain_one_keeps_its_own(tmp_path: Path) -> None:
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, _):
        plain = proxy.request("GET", "/api/tasks")
        small = proxy.request("GET", "/api/tasks", Accept_Encoding="gzip")
    assert plain.headers["ETag"] == '"2026-02-08T09:30:00.123456Z"'
    assert small.headers["ETag"] == 'W/"2026-02-08T09:30:00.123456Z"'
    assert small.headers["Content-Encoding"] == "gzip"
    assert len(small.body) < len(plain.body) / 10
    assert "Accept-Encoding" in plain.headers["Vary"]


def slow_body(proxy: Nginx, stack: ExitStack) -> http.client.HTTPConnection:
    connection = stack.enter_context(closing(proxy.connect()))
    connection.putrequest("POST", "/api/tasks")
    for name, value in (signed("slow") | {"Content_Length": "25"}).items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(b'{"title": ')
    return connection


def test_a_slow_sender_occupies_no_thread_of_the_service(service: Nginx) -> None:
    with ExitStack() as stack:
        senders = [slow_body(service, stack) for _ in range(24)]
        for _ in range(8):
            with closing(service.connect()) as other:
                other.timeout = 10  # the senders stop for longer
                assert ask(other, "GET", "/health/live").status == 200
        assert service.request("GET", "/api/tasks", **signed("slow")).json == []
        for connection in senders:
            connection.send(b'"In two parts"}')
            assert connection.getresponse().status == 201


@pytest.mark.slow
def test_a_body_that_does_not_arrive_in_time_is_ended_however_slowly_it_comes(service: Nginx) -> None:
    with ExitStack() as stack:
        began = time.monotonic()
        connection = slow_body(service, stack)
        while not select.select([connection.sock], [], [], 2)[0] and time.monotonic() - began < 30:
            connection.send(b" ")
        answer = connection.getresponse()
        assert 19 < time.monotonic() - began < 26
        assert (answer.status, json.loads(answer.read())["error_code"]) == (408, "REQUEST_TIMEOUT")
        assert connection.sock.recv(1) == b"", "nginx closes the connection"


@pytest.mark.slow
def test_a_head_that_does_not_arrive_in_time_is_ended_however_slowly_it_comes(tmp_path: Path) -> None:
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, _), closing(proxy.connect()) as connection:
        began = time.monotonic()
        connection.connect()
        connection.sock.sendall(b"GET /api/tasks HTTP/1.1\r\nX-Header: ")
        while not select.select([connection.sock], [], [], 1)[0] and time.monotonic() - began < 30:
            connection.sock.sendall(b"x")
        assert connection.sock.recv(1) == b""
        assert 9 < time.monotonic() - began < 20


def documented(name: str) -> int:
    """Return the number that docs/deploy.md gives for a setting of nginx's main file."""
    [number] = re.findall(rf"\b{name} (\d+);", (ROOT / "docs/deploy.md").read_text(encoding="utf-8"))
    return int(number)


def test_with_the_documented_connections_half_heads_of_one_address_do_not_silence_nginx(tmp_path: Path) -> None:
    connections = documented("worker_connections")
    assert documented("worker_rlimit_nofile") >= 2 * connections
    with many_descriptors(), fake_gunicorn(tmp_path), nginx(tmp_path, connections=4096) as proxy, ExitStack() as stack:
        for _ in range(1100):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=5))
            half.sendall(b"GET /api/ta")
        assert proxy.request("GET", "/health/live", source="127.0.0.2").status == 200
    assert connections >= 4096


@pytest.mark.parametrize("size", [11_000, 32 * 1024])
def test_cookies_of_another_service_on_the_domain_are_not_forwarded(tmp_path: Path, size: int) -> None:
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, server):
        assert proxy.request("GET", "/api/tasks", Cookie="c" * size).status == 200
    assert "Cookie" not in server.received[0][1]


def test_an_upgrade_to_a_web_socket_is_ignored(service: Nginx) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert service.request("GET", "/api/tasks", **signed(), **upgrade).status == 200


def test_the_docs_page_is_compressed_and_not_sent_twice(service: Nginx) -> None:
    path = "/docs/swagger-ui.css"
    answer = service.request("GET", path, Accept_Encoding="gzip")
    assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert gzip.decompress(answer.body) == service.request("GET", path).body
    assert "Accept-Encoding" in answer.headers.get_all("Vary", [])  # in addition to the service's own line
    again = service.request("GET", path, Accept_Encoding="gzip", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


def test_the_policy_of_the_docs_page_passes_nginx(service: Nginx) -> None:
    answer = service.request("GET", "/docs")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "Strict-Transport-Security" not in answer.headers, "without TLS no answer speaks of it"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert answer.headers.get_all("Cache-Control") == ["private, no-cache"]


# --- Paths and headers ---


PUBLIC = [
    *("/mcp", "/mcp?x", "/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"),
    *("/api/tasks", "/api/tasks/1?x=/metrics", "/health", "/health/live", "/docs", "/docs/page.css", "/openapi.json"),
]
HIDDEN = [
    *("/", "/metrics", "/health/ready", "/health/live/", "/health/live/../ready", "/api", "/api/../metrics"),
    *("/api/%2e%2e/metrics", "/api/..%2fmetrics", "/%6detrics", "//metrics", "/docsx", "/openapi.json/x"),
    *("/mcp/", "/mcpx", "/.well-known/", "/.well-known/oauth-protected-resource/", "/.well-known/openid-configuration"),
    *("/health/", "/healthy", "/openapi_json", "/.env", "/error", "/preflight"),
]


def test_nginx_forwards_only_the_public_paths(tmp_path: Path) -> None:
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, server):
        for path in PUBLIC:
            assert proxy.request("GET", path).status == 200, path
        for path in HIDDEN:
            assert_error(proxy.request("GET", path), 404, "NOT_FOUND")
    assert [asked for asked, _ in server.received] == PUBLIC


SLASHES = ("/health/", "/health/live/?x", "/docs/", "/mcp/", f"{METADATA}/")


@pytest.mark.parametrize(
    ("path", "slash"),
    [
        *((path, "; remove the slash at the end of the path") for path in SLASHES),
        *((path, "") for path in ("/nothing/", "/health/ready/", "/health/livex", "/health/live//")),
    ],
)
def test_a_slash_at_the_end_of_a_path_is_named_as_the_reason(service: Nginx, path: str, slash: str) -> None:
    answer = assert_error(service.request("GET", path), 404, "NOT_FOUND")
    assert answer.json["detail"] == f"There is no such route{slash}."


def test_the_service_behind_nginx_is_ready(service: Nginx) -> None:
    answer = service.request("GET", "/health")
    assert (answer.status, answer.json) == (200, {"status": "ready"})
    # nginx logs a request after its response.
    wait_until(lambda: [line["path"] for line in service.log][-1:] == ["/health"])


def preflight(service: Nginx, path: str, **headers: str) -> Response:
    return service.request("OPTIONS", path, **{"Origin": ORIGIN, "Access_Control_Request_Method": "PATCH", **headers})


def test_a_preflight_of_a_path_that_nginx_does_not_forward_is_answered_as_the_service_does(service: Nginx) -> None:
    names = ("Origin", "Methods", "Headers")
    expected = preflight(service, "/api/nothing")
    for path in HIDDEN[:-2]:  # without nginx's own
        answer = preflight(service, path)
        assert (answer.status, answer.body) == (204, b"")
        for name in (*(f"Access-Control-Allow-{name}" for name in names), "Access-Control-Max-Age", "Vary"):
            assert answer.headers.get_all(name) == expected.headers.get_all(name)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
        assert_no_header_twice(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": FOREIGN},
        {"Origin": ""},
        {"Origin": FOREIGN, "Access_Control_Request_Method": f"{ORIGIN} OPTIONS PATCH"},
        {"Access_Control_Request_Method": ""},
    ],
)
def test_other_requests_with_options_for_an_unknown_path_are_not_found(service: Nginx, headers: dict[str, str]) -> None:
    answer = assert_error(preflight(service, "/nothing", **headers), 404, "NOT_FOUND")
    assert "Access-Control-Allow-Methods" not in answer.headers


def test_no_header_lets_a_client_pose_as_a_proxy(tmp_path: Path) -> None:
    names = re.findall(r'proxy_set_header (\S+) "";', CONFIGURATION)
    posed = {name for name in names if name != "Connection"} | {"SCRIPT_NAME", "X_Forwarded_For", "PATH_INFO"}
    head = "".join(f"{name}: spoofed\r\n" for name in sorted(posed))
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, server):
        answer = proxy.raw(f"GET /api/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}If-Match: kept\r\n\r\n")
    assert answer
    assert answer.status == 200
    [(path, received)] = server.received
    assert path == "/api/tasks"
    assert received["If-Match"] == "kept"
    assert "spoofed" not in received.values()
    assert {"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Ssl", "Forwarded", "Script-Name"} <= posed


def test_a_repeated_header_reaches_the_service_unchanged(tmp_path: Path) -> None:
    """The service rejects it: nginx must not choose one of the two."""
    twice = "Idempotency-Key: a\r\nIdempotency-Key: b\r\n"
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, server):
        assert proxy.raw(f"GET /api/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{twice}\r\n")
    assert server.received[0][1].get_all("Idempotency-Key") == ["a", "b"]


# --- Limits ---


def statuses(proxy: Nginx, count: int, headers: Callable[[int], dict[str, str]], **more: Any) -> list[int]:
    """Send `count` requests over eight connections as fast as possible; return the statuses."""

    def eighth(start: int) -> list[int]:
        with closing(proxy.connect(**more)) as connection:
            return [ask(connection, "GET", "/api/tasks", **headers(number)).status for number in range(start, count, 8)]

    with ThreadPoolExecutor(8) as pool:
        return [status for part in pool.map(eighth, range(8)) for status in part]


def test_a_burst_of_a_hundred_requests_passes_but_a_flood_does_not(tmp_path: Path) -> None:
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, _):
        alice = signed()
        assert statuses(proxy, 100, lambda _: alice) == [200] * 100
        assert set(statuses(proxy, 400, lambda _: alice)) == {200, 429}


def test_a_token_over_its_rate_gets_429_and_other_tokens_are_served(tmp_path: Path) -> None:
    changes = [("zone=token:10m rate=20r/s", "zone=token:10m rate=1r/m"), ("burst=100 nodelay", "burst=1 nodelay")]
    with nginx_and_fake_gunicorn(tmp_path, *changes) as (proxy, _):
        alice = signed()
        for blanks, status in (
            ("", 200),
            ("\t", 200),
            (" \t ", 429),
        ):  # trailing white space is ignored
            sent = {**alice, "Authorization": alice["Authorization"] + blanks}
            assert proxy.request("GET", "/api/tasks", **sent).status == status
        refused = assert_error(proxy.request("GET", "/api/tasks", **alice), 429, "RATE_LIMITED")
        assert refused.headers["Retry-After"] == "1"
        assert proxy.request("GET", "/api/tasks", **signed("bob")).status == 200


def test_an_agent_over_its_rate_does_not_use_up_what_its_users_page_may_send(tmp_path: Path) -> None:
    changes = [
        ("zone=agent:10m rate=10r/s", "zone=agent:10m rate=1r/m"),
        ("zone=agent burst=50 nodelay", "zone=agent burst=1 nodelay"),
        ("zone=token burst=100 nodelay", "zone=token"),
    ]
    alice = signed()
    with nginx_and_fake_gunicorn(tmp_path, *changes) as (proxy, _):
        assert [proxy.request("POST", "/mcp", b"{}", **alice).status for _ in range(3)] == [200, 200, 429]
        assert proxy.request("GET", "/api/tasks", **alice).status == 200
        assert_error(proxy.request("POST", "/mcp", b"{}", **alice), 429, "RATE_LIMITED")


def test_a_hundred_requests_at_once_pass(tmp_path: Path) -> None:
    alice = signed()
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, _), ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: proxy.request("GET", "/api/tasks", **alice).status, range(100)))
    assert answers == [200] * 100


@pytest.mark.parametrize("sent", [lambda number: {"Authorization": f"Bearer {number:060}"}, lambda _: {}])
def test_requests_with_random_tokens_or_none_share_the_limit_of_their_address(
    tmp_path: Path, sent: Callable[[int], dict[str, str]]
) -> None:
    slower = ("zone=address:10m rate=100r/s", "zone=address:10m rate=1r/s")
    with nginx_and_fake_gunicorn(tmp_path, slower) as (proxy, server):
        flood = statuses(proxy, 500, sent)
        assert 401 <= flood.count(200) < 450
        assert set(flood) == {200, 429}
        assert len(server.received) == flood.count(200)
        assert proxy.request("GET", "/api/tasks", source="127.0.0.2").status == 200


ONE_A_MINUTE = [
    ("zone=address:10m rate=100r/s", "zone=address:10m rate=1r/m"),
    ("zone=address burst=400 nodelay", "zone=address"),
]


def test_preflights_are_counted(tmp_path: Path) -> None:
    """They cost the service as much as other requests that it rejects."""
    with nginx_and_fake_gunicorn(tmp_path, *ONE_A_MINUTE) as (proxy, server):
        assert proxy.request("OPTIONS", "/api/tasks", Origin=ORIGIN).status == 200
        assert_error(proxy.request("OPTIONS", "/api/tasks", Origin=ORIGIN), 429, "RATE_LIMITED")
        assert proxy.request("GET", "/api/tasks").status == 429
        assert proxy.request("OPTIONS", "/api/tasks", source="127.0.0.2").status == 200
    assert len(server.received) == 2


def test_the_options_of_a_token_are_counted(tmp_path: Path) -> None:
    changes = [("zone=token:10m rate=20r/s", "zone=token:10m rate=1r/m"), ("burst=100 nodelay", "burst=1 nodelay")]
    with nginx_and_fake_gunicorn(tmp_path, *changes) as (proxy, _):
        alice = signed()
        answers = [proxy.request("OPTIONS", "/api/tasks", **alice).status for _ in range(3)]
        assert answers == [200, 200, 429]


def test_a_token_with_too_many_requests_at_once_is_refused_and_others_are_served(tmp_path: Path) -> None:
    fewer = ("limit_conn token_connections 100", "limit_conn token_connections 1")
    alice = signed()
    with nginx_and_fake_gunicorn(tmp_path, fewer) as (proxy, server), closing(proxy.connect()) as slow:
        slow.request("GET", "/api/slow", headers={"Authorization": alice["Authorization"]})
        assert server.waiting.wait(10)
        refused = assert_error(proxy.request("GET", "/api/tasks", **alice), 503, "SERVICE_UNAVAILABLE")
        assert refused.headers["Retry-After"] == "2"
        assert proxy.request("GET", "/api/tasks", **signed("bob")).status == 200
        assert proxy.request("GET", "/api/tasks").status == 200
        server.released.set()
        assert slow.getresponse().status == 200
        # nginx counts a request until it has logged it.
        wait_until(lambda: proxy.request("GET", "/api/tasks", **alice).status == 200)


def test_a_header_does_not_change_the_address_that_is_limited(tmp_path: Path) -> None:
    with nginx_and_fake_gunicorn(tmp_path, *ONE_A_MINUTE) as (proxy, _):
        assert proxy.request("GET", "/api/tasks").status == 200
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            assert proxy.request("GET", "/api/tasks", **{name: "192.0.2.2"}).status == 429


def from_address(proxy: Nginx, address: str) -> int:
    return proxy.request("GET", "/api/tasks", X_Forwarded_For=address).status


def test_behind_a_listed_proxy_the_address_is_the_one_it_saw(tmp_path: Path) -> None:
    listed = uncommented(CONFIGURATION, "set_real_ip_from", "real_ip_")
    assert len(listed) == 3
    with nginx_and_fake_gunicorn(tmp_path, *ONE_A_MINUTE, *listed) as (proxy, _):
        assert from_address(proxy, "192.0.2.1") == 200
        assert from_address(proxy, "192.0.2.2") == 200
        assert from_address(proxy, "192.0.2.3, 192.0.2.1") == 429  # only the last address comes from the proxy
        assert from_address(proxy, "2001:db8:0:1::1") == 200
        assert from_address(proxy, "2001:db8:0:1:a::2") == 429  # another address of the same network
        assert from_address(proxy, "2001:db8:0:2::1") == 200


# --- nginx's own responses ---

Provoke = Callable[[ExitStack, Path, str], Response | None]


def raw(line: str, rest: str, *changes: Change) -> Provoke:
    """Return a function that provokes a response with this request line, headers and body."""

    def provoke(stack: ExitStack, folder: Path, origin: str) -> Response | None:
        proxy, _ = stack.enter_context(nginx_and_fake_gunicorn(folder, *changes))
        return proxy.raw(f"{line} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nConnection: close\r\n{rest}")

    return provoke


def over_the_limit(stack: ExitStack, folder: Path, origin: str) -> Response:
    proxy, _ = stack.enter_context(nginx_and_fake_gunicorn(folder, *ONE_A_MINUTE))
    proxy.request("GET", "/api/tasks")
    return proxy.request("GET", "/api/tasks", Origin=origin)


def service_down(stack: ExitStack, folder: Path, origin: str) -> Response:
    proxy = stack.enter_context(nginx(folder))
    return proxy.request("GET", "/api/tasks?q=secret", Origin=origin)


def too_busy(stack: ExitStack, folder: Path, origin: str) -> Response:
    few = ("limit_conn connections 200", "limit_conn connections 1")
    proxy, server = stack.enter_context(nginx_and_fake_gunicorn(folder, few))
    connection = stack.enter_context(closing(proxy.connect()))
    connection.request("GET", "/api/slow")
    assert server.waiting.wait(10)
    return proxy.request("GET", "/api/tasks", Origin=origin)


SLOW = ("proxy_read_timeout 30s", "proxy_read_timeout 1s")
TWO_TOKENS = "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"
PROVOKED: dict[str, tuple[int, str, Provoke]] = {
    "two lengths": (400, "BAD_REQUEST", raw("POST /api/tasks", "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx")),
    "a header too large": (400, "BAD_REQUEST", raw("GET /api/tasks", f"Cookie: {'x' * 34_000}\r\n\r\n")),
    "a token too large": (400, "BAD_REQUEST", raw("GET /api/tasks", f"Authorization: Bearer {'x' * 8000}\r\n\r\n")),
    "an unknown coding": (400, "BAD_REQUEST", raw("POST /api/tasks", "Transfer-Encoding: gzip\r\n\r\n")),
    "two tokens": (400, "BAD_REQUEST", raw("GET /api/tasks", TWO_TOKENS)),
    "an address with a letter as it is": (400, "BAD_REQUEST", raw("GET /api/tasks?q=é", "\r\n")),
    "an unknown path": (404, "NOT_FOUND", raw("GET /nothing", "\r\n")),
    "a trace": (405, "METHOD_NOT_ALLOWED", raw("TRACE /api/tasks", "\r\n")),
    "a large body": (413, "PAYLOAD_TOO_LARGE", raw("POST /api/tasks", "Content-Length: 100000\r\n\r\n")),
    "a long address": (414, "URI_TOO_LONG", raw(f"GET /api/tasks?q={'x' * 4000}", "\r\n")),
    "a flood": (429, "RATE_LIMITED", over_the_limit),
    "nobody there": (502, "BAD_GATEWAY", service_down),
    "too busy": (503, "SERVICE_UNAVAILABLE", too_busy),
    "too slow": (504, "GATEWAY_TIMEOUT", raw("GET /api/slow", "\r\n", SLOW)),
}


@pytest.mark.parametrize(
    ("kind", "origin"),
    [
        *((kind, ORIGIN) for kind in PROVOKED),
        ("an unknown path", "https://other.example.com:8443"),
        ("an unknown path", FOREIGN),
        ("a flood", FOREIGN),
    ],
)
def test_an_error_of_nginx_itself_has_the_error_body_and_is_readable_by_listed_origins(
    tmp_path: Path, kind: str, origin: str
) -> None:
    status, code, provoke = PROVOKED[kind]
    with ExitStack() as stack:
        answer = assert_error(provoke(stack, tmp_path, origin), status, code)
    assert answer.headers["Vary"] == "Authorization, Origin"
    assert answer.headers["Connection"] == "close" or kind in {"a flood", "nobody there", "too busy"}
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert ("Retry-After" in answer.headers) == (status in {429, 503})
    assert ("Allow" in answer.headers) == (status == 405)
    assert "Access-Control-Allow-Credentials" not in answer.headers
    if origin == FOREIGN:
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
    else:
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == EXPOSED


def test_malformed_requests_get_the_error_body_too(service: Nginx) -> None:
    for text in ("GET /api/tasks HTTP/1.1\r\n\r\n", "no request at all\r\n\r\n", "GET / HTTP/9.1\r\nHost: x\r\n\r\n"):
        assert_error(service.raw(text), 400, "BAD_REQUEST")
    assert_error(service.raw(f"GET /?q={'x' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n"), 414, "URI_TOO_LONG")


def test_clients_without_a_host_header_and_head_requests_get_a_response(service: Nginx) -> None:
    answer = service.raw("GET /health/live HTTP/1.0\r\n\r\n")
    assert answer
    assert answer.status == 200
    head = service.request("HEAD", "/nothing")
    assert (head.status, head.body) == (404, b"")


@pytest.mark.parametrize("part", ["GET /api/ta", "POST /api/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"])
def test_the_connection_of_an_unfinished_request_is_closed(tmp_path: Path, part: str) -> None:
    """nginx sends no 408: it closes the connection, and the log has the status."""
    soon = [(f"client_{name}_timeout 10s", f"client_{name}_timeout 4s") for name in ("header", "body")]
    with nginx_and_fake_gunicorn(tmp_path, *soon) as (proxy, server):
        assert proxy.raw(part) is None
    assert [path for path, _ in server.received] == (["/api/tasks"] if part.startswith("POST") else [])
    assert [line["status"] for line in proxy.log] == [408]


# --- Origins ---


NOT_ALLOWED = [
    *("https://app.example.com.evil.com", "https://app.example.co", "https://appXexample.com", "null", ""),
    *(ORIGINS, f"{ORIGIN}|{ORIGIN}"),
]


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        (ORIGINS, ORIGIN),
        (f"{ORIGIN}, https://b.example", "https://b.example"),
        (f'"{ORIGIN}"', ORIGIN),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("", None),
    ],
)
def test_an_origin_must_match_exactly(tmp_path: Path, origins: str, allowed: str | None) -> None:
    with nginx(tmp_path, origins=origins) as proxy:
        for origin in filter(None, [*NOT_ALLOWED, allowed]):
            answer = proxy.request("GET", "/nothing", Origin=origin)
            assert answer.headers["Access-Control-Allow-Origin"] == (origin if origin == allowed else None)


def test_a_malformed_origin_makes_no_configuration(tmp_path: Path) -> None:
    settings = tmp_path / "settings.env"
    for origins in ("https://a;}", "https://a$x", "https://a|b", "https://a&b", "https://a\\b", "*"):
        settings.write_text(f"CORS_ORIGINS={origins}\n")
        made = run(str(DEPLOY / "cors-origins.sh"), str(settings), cwd=tmp_path, env=environment())
        assert (made.returncode, made.stdout) == (1, "")
        assert made.stderr.startswith("CORS_ORIGINS in ")


# --- The log ---


def test_the_log_has_no_token_query_id_or_other_text_of_a_client(tmp_path: Path) -> None:
    private = "private" + "-word"
    with nginx_and_fake_gunicorn(tmp_path) as (proxy, _):
        sent = {"Authorization": f"Bearer {private}", "User_Agent": private, "Referer": private, "Origin": private}
        for path in (
            "/api/tasks",
            f"/api/tasks/{private}",
            f"/{private}",
            "/docs",
            f"/docs/{private}",
            "/mcp",
            METADATA,
        ):
            proxy.request("GET", f"{path}?q={private}", **sent)
        proxy.request(private.upper(), "/api/tasks", X_Request_ID=f'"{private}', **sent)
        proxy.request("GET", f"/api/tasks?q={private}{'x' * 4000}", **sent)
        proxy.request("POST", f"/api/tasks?q={private}", b"x" * 100_000, **sent)
        proxy.raw(f"GET /api/tasks?{private} HTTP/1.1\r\n{private}\r\n\r\n")
    written = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*.log")]
    assert len(written) == 2
    assert private not in "".join(written).lower()
    assert [line["path"] for line in proxy.log[:7]] == [
        "/api/tasks",
        "/api/tasks/{id}",
        "other",
        "/docs",
        "/docs/{asset}",
        "/mcp",
        METADATA,
    ]
    assert [line["method"] for line in proxy.log[:8]] == ["GET"] * 7 + ["OTHER"]
    assert [line["status"] for line in proxy.log[:10]] == [200, 200, 404, 200, 200, 200, 200, 200, 414, 413]


def test_a_failing_service_is_logged_without_the_query(tmp_path: Path) -> None:
    with ExitStack() as stack:
        service_down(stack, tmp_path, ORIGIN)
    assert "secret" not in "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.log"))
    [line] = [json.loads(text) for text in (tmp_path / "todo-api.log").read_text(encoding="utf-8").splitlines()]
    assert (line["status"], line["upstream_status"], line["path"]) == (502, "502", "/api/tasks")
    assert datetime.fromisoformat(line["time"])


# --- TLS ---


def test_with_every_optional_setting_nginx_serves_tls_and_redirects_to_it(tmp_path: Path) -> None:
    """As docs/deploy.md describes it, on other ports."""
    write_certificate(tmp_path)
    secure = free_port()
    changes = [
        ("\n    listen 80 default_server;", ""),
        *uncommented(CONFIGURATION),
        ("listen 443 ssl", f"listen 127.0.0.1:{secure} ssl"),
        ("/etc/ssl/todo-api", str(tmp_path)),
    ]
    context = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
    context.check_hostname = False
    with nginx_and_fake_gunicorn(tmp_path, *changes) as (proxy, _):
        moved = proxy.request("GET", "/api/tasks?limit=1")
        assert (moved.status, moved.headers["Location"]) == (308, "https://api.example.com/api/tasks?limit=1")
        behind_tls = Nginx(tmp_path, secure)
        assert_error(behind_tls.request("GET", "/health/live"), 400, "BAD_REQUEST")
        for path, status in (("/health/live", 200), ("/nothing", 404)):
            with closing(behind_tls.connect(tls=context)) as connection:
                answer = ask(connection, "GET", path)
            assert answer.status == status
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
            assert_no_header_twice(answer)
