"""Reading requests: every malformed case is fed whole, byte by byte and with a tail; what is taken is taken exactly."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channelstream.errors import MalformedRequest
from channelstream.http_reader import (
    MAX_CHUNK_LINE,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_REMEMBERED_HEAD,
    MAX_REQUEST_LINE,
    MAX_TRAILER_BYTES,
    Deadlines,
    Phase,
    Request,
    RequestReader,
    _Meaning,
    _remembered_head,
    _sound_head,
    _sound_head_in_python,
    environ_key,
    plain_head,
)

MAX_BODY = 1000
HOST = b"Host: a.example\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def get(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    """A head with these header lines."""
    return line + b"\r\n" + host + b"".join(item + b"\r\n" for item in lines) + b"\r\n"


def read(pieces: list[bytes]) -> tuple[list[Request], tuple[int, str] | None]:
    """All requests in `pieces`, and the status and sentence of the error that ended the reading."""
    reader = RequestReader(MAX_BODY)
    requests: list[Request] = []
    try:
        for piece in pieces:
            request = reader.feed(piece)
            while request is not None:
                requests.append(request)
                request = reader.feed(b"")
    except MalformedRequest as refused:
        assert reader.phase is Phase.REFUSED
        return requests, (refused.status, str(refused))
    return requests, None


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def one(data: bytes) -> Request:
    """The one request that `data` is, read in both ways."""
    whole, error = read([data])
    assert (len(whole), error) == (1, None)
    assert read(byte_by_byte(data)) == (whole, None)
    return whole[0]


MALFORMED: dict[str, tuple[int, bytes]] = {
    # Where does it end: the ways to smuggle a request.
    "two lengths": (400, get(b"Content-Length: 3", b"Content-Length: 4")),
    "two equal lengths": (400, get(b"Content-Length: 3", b"content-length: 3")),
    "length list": (400, get(b"Content-Length: 3, 3")),
    "length and coding": (400, get(b"Content-Length: 3", b"Transfer-Encoding: chunked")),
    "coding and length": (400, get(b"Transfer-Encoding: chunked", b"Content-Length: 3")),
    "length with sign": (400, get(b"Content-Length: +3")),
    "negative length": (400, get(b"Content-Length: -3")),
    "length with underscore": (400, get(b"Content-Length: 1_0")),
    "hexadecimal length": (400, get(b"Content-Length: 0x1")),
    "empty length": (400, get(b"Content-Length:")),
    "blank length": (400, get(b"Content-Length: \t")),
    "length with a space inside": (400, get(b"Content-Length: 1 0")),
    "length of 11 digits": (400, get(b"Content-Length: 00000000003")),
    "length in other digits": (400, get("Content-Length: ³".encode("latin-1"))),
    "gzip, chunked": (400, get(b"Transfer-Encoding: gzip, chunked")),
    "chunked twice": (400, get(b"Transfer-Encoding: chunked, chunked")),
    "two codings": (400, get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    "identity": (400, get(b"Transfer-Encoding: identity")),
    "empty coding": (400, get(b"Transfer-Encoding:")),
    "xchunked": (400, get(b"Transfer-Encoding: xchunked")),
    "chunked with parameter": (400, get(b"Transfer-Encoding: chunked;a=b")),
    "vertical tab before chunked": (400, get(b"Transfer-Encoding: \x0bchunked")),
    "coding in 1.0": (400, get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")),
    "space before colon": (400, get(b"Content-Length : 3")),
    "tab before colon": (400, get(b"Transfer-Encoding\t: chunked")),
    # Who is it for.
    "no host": (400, get(host=b"")),
    "two hosts": (400, get(b"Host: b.example")),
    "two equal hosts": (400, get(b"host: a.example")),
    "two hosts in 1.0": (400, get(b"Host: b.example", line=b"GET / HTTP/1.0")),
    "host with a slash": (400, get(host=b"Host: a.example/b\r\n")),
    "host list": (400, get(host=b"Host: a.example, b.example\r\n")),
    "host with a user": (400, get(host=b"Host: a@b.example\r\n")),
    # The request line.
    "version 0.9, simple": (400, b"GET /\r\n"),
    "version 0.9": (400, get(line=b"GET / HTTP/0.9")),
    "version 2.0": (400, get(line=b"GET / HTTP/2.0")),
    "version 1.2": (400, get(line=b"GET / HTTP/1.2")),
    "version 1.10": (400, get(line=b"GET / HTTP/1.10")),
    "version 1": (400, get(line=b"GET / HTTP/1")),
    "version in lower case": (400, get(line=b"GET / http/1.1")),
    "preface of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "two spaces": (400, get(line=b"GET  / HTTP/1.1")),
    "tab for space": (400, get(line=b"GET\t/ HTTP/1.1")),
    "space at the end": (400, get(line=b"GET / HTTP/1.1 ")),
    "space in front": (400, get(line=b" GET / HTTP/1.1")),
    "space in target": (400, get(line=b"GET /a b HTTP/1.1")),
    "no target": (400, get(line=b"GET HTTP/1.1")),
    "relative target": (400, get(line=b"GET message HTTP/1.1")),
    "asterisk with GET": (400, get(line=b"GET * HTTP/1.1")),
    "fragment": (400, get(line=b"GET /a#b HTTP/1.1")),
    "target not ASCII": (400, get(line="GET /ä HTTP/1.1".encode())),
    "absolute target with user": (400, get(line=b"GET http://u:p@a.example/ HTTP/1.1")),
    "absolute target of another scheme": (400, get(line=b"GET ftp://a.example/ HTTP/1.1")),
    "absolute target without host": (400, get(line=b"GET http:///a HTTP/1.1")),
    "method with a slash": (400, get(line=b"GE/T / HTTP/1.1")),
    "method of 33 characters": (400, get(line=b"F" * 33 + b" / HTTP/1.1")),
    "malformed with an unknown method": (400, get(b"Content-Length: 3, 3", line=b"FROB / HTTP/1.1")),
    "CONNECT to a path": (405, get(line=b"CONNECT /a HTTP/1.1")),
    "CONNECT": (405, get(line=b"CONNECT a.example:443 HTTP/1.1")),
    "two empty lines in front": (400, b"\r\n\r\n" + get()),
    # Line ends and characters.
    "bare LF after request line": (400, b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    "bare LF after header": (400, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    "bare LF as empty line": (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    "bare LFs": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare LF in front": (400, b"\n" + get()),
    "bare CR in value": (400, get(b"X: a\rb")),
    "bare CR in request line": (400, get(line=b"GET /\r HTTP/1.1")),
    "CR CR LF": (400, get(b"X: a\r")),
    "folded line": (400, get(b"X: a", b" b")),
    "folded by a tab": (400, get(b"X: a", b"\tb")),
    "first header folded": (400, get(host=b" Host: a\r\n")),
    "NUL in value": (400, get(b"X: a\0b")),
    "NUL in name": (400, get(b"X\0: a")),
    "control character in value": (400, get(b"X: a\x01b")),
    "DEL in value": (400, get(b"X: a\x7fb")),
    "escape in target": (400, get(line=b"GET /\x1b HTTP/1.1")),
    "empty name": (400, get(b": a")),
    "name in brackets": (400, get(b"(X): a")),
    "name not ASCII": (400, get(b"X\xe4: a")),
    "space in name": (400, get(b"X Y: a")),
    "no colon": (400, get(b"hello")),
    "garbage": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "text garbage": (400, b"hello\r\n"),
    # Bounds.
    "request line too long": (414, get(line=b"GET /" + b"a" * MAX_REQUEST_LINE + b" HTTP/1.1")),
    "request line without end": (414, b"GET /" + b"a" * MAX_REQUEST_LINE),
    "header too long": (431, get(b"X: " + b"a" * MAX_HEADER_BYTES)),
    "header block too long": (431, get(*[b"X: " + b"a" * 1000] * 17)),
    "too many headers": (431, get(*[b"X: a"] * MAX_HEADERS)),
    "body too large": (413, get(b"Content-Length: %d" % (MAX_BODY + 1))),
    "body far too large": (413, get(b"Content-Length: 9999999999")),
    "unknown expectation": (417, get(b"Expect: 200-ok", b"Content-Length: 3")),
    # Chunks.
    "chunk size missing": (400, CHUNKED + b"\r\nhello"),
    "chunk size no number": (400, CHUNKED + b"zz\r\n"),
    "chunk size with 0x": (400, CHUNKED + b"0x5\r\n"),
    "chunk size with sign": (400, CHUNKED + b"+5\r\n"),
    "chunk size with underscore": (400, CHUNKED + b"1_0\r\n"),
    "chunk size with space in front": (400, CHUNKED + b" 5\r\n"),
    "chunk size with space behind": (400, CHUNKED + b"5 \r\n"),
    "chunk size of nine digits": (400, CHUNKED + b"000000005\r\n"),
    "chunk size ended by LF": (400, CHUNKED + b"5\nhello"),
    "chunk size ended by CR": (400, CHUNKED + b"5\rhello"),
    "chunk extension with LF": (400, CHUNKED + b"5;a\nb\r\nhello\r\n"),
    "chunk extension with NUL": (400, CHUNKED + b"5;\0\r\n"),
    "chunk extension too long": (400, CHUNKED + b"5;" + b"a" * MAX_CHUNK_LINE + b"\r\n"),
    "chunk longer than its size": (400, CHUNKED + b"5\r\nhello!\r\n"),
    "chunk without CR LF behind": (400, CHUNKED + b"5\r\nhello0\r\n\r\n"),
    "chunk with LF behind": (400, CHUNKED + b"5\r\nhello\n0\r\n\r\n"),
    "chunk with CR behind": (400, CHUNKED + b"5\r\nhello\r0\r\n\r\n"),
    "chunk too large": (413, CHUNKED + b"%x\r\n" % (MAX_BODY + 1)),
    "chunks too large": (413, CHUNKED + b"%x\r\n" % MAX_BODY + b"a" * MAX_BODY + b"\r\n1\r\n"),
    "trailer without colon": (400, CHUNKED + b"0\r\nhello\r\n\r\n"),
    "trailer with bare LF": (400, CHUNKED + b"0\r\nX: a\nY: b\r\n\r\n"),
    "trailer folded": (400, CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n"),
    "trailer with NUL": (400, CHUNKED + b"0\r\nX: \0\r\n\r\n"),
    "trailer too long": (431, CHUNKED + b"0\r\nX: " + b"a" * MAX_TRAILER_BYTES + b"\r\n\r\n"),
    "trailers too long": (431, CHUNKED + b"0\r\n" + b"X: aaaaaaaaa\r\n" * (MAX_TRAILER_BYTES // 14 + 1) + b"\r\n"),
}


@pytest.mark.parametrize("feeding", ["whole", "byte by byte", "with a tail", "after a good one"])
@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_is_refused_however_it_comes(case: str, feeding: str) -> None:
    status, data = MALFORMED[case]
    good = b""
    if feeding == "after a good one":
        good = get(b"Content-Length: 2") + b"ok"
    tail = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" if feeding == "with a tail" else b""
    stream = good + data + tail
    requests, error = read(byte_by_byte(stream) if feeding == "byte by byte" else [stream])
    assert len(requests) == bool(good)
    assert error is not None
    assert error[0] == status


@pytest.mark.parametrize("case", MALFORMED)
def test_the_way_of_feeding_changes_neither_status_nor_sentence(case: str) -> None:
    data = MALFORMED[case][1]
    assert read([data]) == read(byte_by_byte(data))


def test_a_post_as_a_backend_sends_it() -> None:
    request = one(
        get(
            b"Content-Type: application/json", b"X-Thing:  a b \t", b"Content-Length: 4", line=b"POST /m?a=b?c HTTP/1.1"
        )
        + b"[{}]"
    )
    assert request == Request(
        method="POST",
        path="/m",
        query="a=b?c",
        version="HTTP/1.1",
        headers={
            "HTTP_HOST": "a.example",
            "CONTENT_TYPE": "application/json",
            "HTTP_X_THING": "a b",
            "CONTENT_LENGTH": "4",
        },
        keep_alive=True,
        body=b"[{}]",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/a%20b%2Fc?x=%20", "/a b/c", "x=%20"),
        (b"/%C3%A4", "/Ã¤", ""),
        (b"/100%", "/100%", ""),
        (b"//a//b", "//a//b", ""),
        (b"/?", "/", ""),
        (b"http://b.example:80/x?y", "/x", "y"),
        (b"http://b.example", "/", ""),
        (b"HTTPS://b.example?y", "/", "y"),
    ],
)
def test_targets(target: bytes, path: str, query: str) -> None:
    request = one(get(line=b"GET " + target + b" HTTP/1.1"))
    assert (request.path, request.query) == (path, query)


def test_the_host_of_an_absolute_target_wins() -> None:
    assert one(get(line=b"GET http://b.example:80/ HTTP/1.1")).headers["HTTP_HOST"] == "b.example:80"


@pytest.mark.parametrize("method", ["FROB", "get", "PRI", "SOURCE", "PLAY", "M-SEARCH", "F" * 32])
def test_any_token_is_a_method_and_the_application_judges_it(method: str) -> None:
    request = one(get(b"Content-Length: 2", line=f"{method} /a HTTP/1.1".encode()) + b"ok")
    assert (request.method, request.path, request.body) == (method, "/a", b"ok")


def test_options_for_the_server_itself() -> None:
    assert one(get(line=b"OPTIONS * HTTP/1.1")).path == "*"


def test_names_that_would_collide_in_an_environ_are_dropped() -> None:
    request = one(get(b"X_Real_IP: 6.6.6.6", b"X-Real-IP: 1.2.3.4", b"Content_Length: 9", b"Proxy: evil"))
    assert request.headers == {"HTTP_HOST": "a.example", "HTTP_X_REAL_IP": "1.2.3.4"}


def test_repeated_headers_are_joined() -> None:
    request = one(get(b"Cookie: a=1", b"Cookie: b=2", b"X-A: 1", b"x-a: 2"))
    assert (request.headers["HTTP_COOKIE"], request.headers["HTTP_X_A"]) == ("a=1; b=2", "1, 2")


def test_a_repeated_dropped_header_is_dropped_too() -> None:
    assert one(get(b"A_B: 1", b"C_D: 2")).headers == {"HTTP_HOST": "a.example"}


@pytest.mark.parametrize("name", ["Host", "HOST", "hOsT"])
def test_the_case_of_a_name_does_not_matter(name: str) -> None:
    assert environ_key(name) == "HTTP_HOST"
    assert one(get(host=name.encode() + b": a\r\n")).headers == {"HTTP_HOST": "a"}


@pytest.mark.parametrize(
    ("line", "connection", "keep_alive"),
    [
        (b"GET / HTTP/1.1", b"", True),
        (b"GET / HTTP/1.1", b"close", False),
        (b"GET / HTTP/1.1", b"Upgrade, Close", False),
        (b"GET / HTTP/1.1", b"keep-alive, close", False),
        (b"GET / HTTP/1.1", b"x-other", True),
        (b"GET / HTTP/1.0", b"", False),
        (b"GET / HTTP/1.0", b"Keep-Alive", True),
        (b"GET / HTTP/1.0", b"keep-alive", True),
    ],
)
def test_keep_alive(line: bytes, connection: bytes, keep_alive: bool) -> None:
    lines = [b"Connection: " + connection] if connection else []
    assert one(get(*lines, line=line)).keep_alive is keep_alive


def test_http_1_0_needs_no_host() -> None:
    assert one(get(line=b"GET / HTTP/1.0", host=b"")).headers == {}


def test_one_empty_line_in_front_is_skipped() -> None:
    assert one(b"\r\n" + get()).path == "/"


def test_the_limits_themselves_are_allowed() -> None:
    target = b"/" + b"a" * (MAX_REQUEST_LINE - len(b"GET / HTTP/1.1"))
    assert len(one(get(line=b"GET " + target + b" HTTP/1.1")).path) == len(target)
    padding = MAX_HEADER_BYTES - len(HOST) - len(b"X: \r\n\r\n")
    assert len(one(get(b"X: " + b"a" * padding)).headers["HTTP_X"]) == padding
    assert one(get(*[b"X: a"] * (MAX_HEADERS - 1))).headers["HTTP_X"].count("a") == MAX_HEADERS - 1
    assert len(one(get(b"Content-Length: %d" % MAX_BODY) + b"a" * MAX_BODY).body) == MAX_BODY


def test_a_chunked_body() -> None:
    chunks = b"5\r\nhello\r\n00A;a=b;c\r\n, 10 bytes\r\n0;last\r\nX-Sum: 1\r\nY: \r\n\r\n"
    request = one(CHUNKED + chunks)
    assert request.body == b"hello, 10 bytes"
    assert request.headers == {"HTTP_HOST": "a.example", "CONTENT_LENGTH": "15"}


def test_chunked_is_recognized_in_any_case_and_of_any_method() -> None:
    head = get(b"transfer-encoding: CHUNKED", line=b"DELETE /message HTTP/1.1")
    assert one(head + b"2\r\nok\r\n0\r\n\r\n").body == b"ok"


def test_the_body_of_a_request_that_offers_an_upgrade_is_read() -> None:
    head = get(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 2", line=b"POST / HTTP/1.1")
    requests, error = read([head + b"ok" + get()])
    assert ([request.body for request in requests], error) == ([b"ok", b""], None)


def test_pipelined_requests_come_one_by_one() -> None:
    stream = b"".join(get(b"Content-Length: 1", line=b"POST /%d HTTP/1.1" % n) + b"%d" % n for n in range(5))
    requests, error = read([stream])
    assert [(request.path, request.body) for request in requests] == [(f"/{n}", b"%d" % n) for n in range(5)]
    assert error is None
    assert read(byte_by_byte(stream)) == (requests, None)


def test_what_comes_behind_is_handed_out_once() -> None:
    reader = RequestReader(MAX_BODY)
    assert reader.feed(get(b"Connection: Upgrade", b"Upgrade: websocket") + b"\x81\x80abcd") is not None
    assert reader.leftover() == b"\x81\x80abcd"
    assert reader.leftover() == b""


@pytest.mark.parametrize("length", [b"1001", b"00000000003"])
def test_what_is_refused_for_its_length_is_known_by_its_id(length: bytes) -> None:
    head = get(b"X-Request-Id: r-1", b"Content-Length: " + length)
    for pieces in ([head], byte_by_byte(head)):
        reader = RequestReader(MAX_BODY)
        with pytest.raises(MalformedRequest):
            list(map(reader.feed, pieces))
        assert reader.request_id == "r-1"


def test_nothing_is_read_after_a_refusal() -> None:
    reader = RequestReader(MAX_BODY)
    with pytest.raises(MalformedRequest):
        reader.feed(b"\0")
    with pytest.raises(MalformedRequest):
        reader.feed(get())
    assert reader.leftover() == b""


def test_a_too_large_body_is_refused_before_it_comes() -> None:
    with pytest.raises(MalformedRequest, match="body over 1000 bytes") as refused:
        RequestReader(MAX_BODY).feed(get(b"Expect: 100-continue", b"Content-Length: 1001"))
    assert refused.value.body() == {"error": "body over 1000 bytes"}


def test_phases() -> None:
    reader = RequestReader(MAX_BODY)
    seen = [reader.phase]
    for piece in (b"GET / HTTP/1.1\r\n", HOST + b"Content-Length: 2\r\n\r\n", b"o", b"k", b"\r\n", b"G"):
        reader.feed(piece)
        seen.append(reader.phase)
    assert seen == [Phase.FRESH, Phase.HEADERS, Phase.BODY, Phase.BODY, Phase.IDLE, Phase.IDLE, Phase.HEADERS]


def test_body_bytes_count_content_and_not_framing() -> None:
    reader = RequestReader(MAX_BODY)
    reader.feed(get(b"Content-Length: 9") + b"abc")
    assert reader.body_bytes == 3
    chunked = RequestReader(MAX_BODY)
    chunked.feed(CHUNKED + b"2;" + b"x" * 100 + b"\r\nab\r\n1;" + b"x" * 100)
    assert chunked.body_bytes == 2


@pytest.mark.parametrize(
    ("head", "owed"),
    [
        (get(b"Expect: 100-Continue", b"Content-Length: 3"), True),
        (get(b"Expect: 100-continue", b"Transfer-Encoding: chunked"), True),
        (get(b"Content-Length: 3"), False),
        (get(b"Expect: 100-continue", b"Content-Length: 3") + b"a", False),
        (get(b"Expect: 100-continue"), False),
        (get(b"Expect: 100-continue", b"Content-Length: 3", line=b"POST / HTTP/1.0"), False),
    ],
)
def test_a_client_that_waits_for_leave_to_go_on_gets_it_once(head: bytes, owed: bool) -> None:
    reader = RequestReader(MAX_BODY)
    reader.feed(head)
    assert reader.take_continue() is owed
    assert reader.take_continue() is False


def test_deadlines_of_the_phases() -> None:
    deadlines = Deadlines(fresh_s=1, idle_s=2, headers_s=3, body_s=4, body_rate_bytes_s=100)
    allowed = [deadlines.allowed_s(phase, 50) for phase in (Phase.FRESH, Phase.IDLE, Phase.HEADERS, Phase.BODY)]
    assert allowed == [1, 2, 3, 4.5]


# Pieces that are nearly right reach deeper than random bytes do.
FRAGMENTS = [
    *(
        b"GET / HTTP/1.1\r\n",
        b"POST /a?b HTTP/1.0\r\n",
        HOST,
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ),
    *(b"Expect: 100-continue\r\n", b"X_Y: 1\r\n", b"Connection: Upgrade\r\nUpgrade: x\r\n", b"X: y\r\n"),
    *(b"\r\n", b"\r", b"\n", b" ", b":", b"\0", b"\xff", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\n"),
    *(CHUNKED, get(), get(b"Content-Length: 2") + b"ok"),
]
STREAMS = st.one_of(
    st.binary(max_size=80), st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=3), max_size=12).map(b"".join)
)


@settings(max_examples=600)
@given(STREAMS)
def test_any_bytes_give_requests_or_the_typed_error_whole_as_byte_by_byte(stream: bytes) -> None:
    assert read([stream]) == read(byte_by_byte(stream))


@settings(max_examples=300)
@given(STREAMS, st.data())
def test_any_cut_gives_the_same(stream: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(stream)))
    assert read([stream[:cut], stream[cut:]]) == read([stream])


@settings(max_examples=300)
@given(STREAMS)
def test_what_is_taken_another_parser_takes_with_the_same_body(stream: bytes) -> None:
    requests, _ = read([stream])
    if not requests:
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(stream.removeprefix(b"\r\n"))
    head = other.next_event()
    assert isinstance(head, h11.Request)
    body = b""
    event = other.next_event()
    while isinstance(event, h11.Data):
        body += event.data
        event = other.next_event()
    assert isinstance(event, h11.EndOfMessage)
    assert (requests[0].method.encode(), requests[0].body) == (head.method, body)


@settings(max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.booleans())
def test_chunks_of_any_bytes_come_out_joined(chunks: list[bytes], upper: bool) -> None:
    sizes = [(b"%X" if upper else b"%x") % len(chunk) for chunk in chunks]
    framed = b"".join(size + b"\r\n" + chunk + b"\r\n" for size, chunk in zip(sizes, chunks, strict=True))
    assert one(CHUNKED + framed + b"0\r\n\r\n").body == b"".join(chunks)


@pytest.mark.parametrize("padding", [0, MAX_REMEMBERED_HEAD], ids=["remembered", "too long for that"])
def test_a_head_that_comes_again_says_the_same_of_another_body(padding: int) -> None:
    head = get(b"Transfer-Encoding: chunked", b"X-Padding: " + b"x" * padding, line=b"POST /a?b HTTP/1.1")
    bodies = [b"1\r\na\r\n0\r\n\r\n", b"2\r\nbc\r\n0\r\n\r\n", b"3\r\ndef\r\n0\r\n\r\n"]
    requests, error = read([head + body for body in bodies])
    assert error is None
    assert [(one.path, one.query, one.body, one.headers["CONTENT_LENGTH"]) for one in requests] == [
        ("/a", "b", b"a", "1"),
        ("/a", "b", b"bc", "2"),
        ("/a", "b", b"def", "3"),
    ]
    assert all("HTTP_TRANSFER_ENCODING" not in one.headers for one in requests)


def test_a_head_that_comes_again_is_held_against_each_readers_own_limit() -> None:
    post = get(b"Content-Length: 5", line=b"POST / HTTP/1.1") + b"abcde"
    wide, narrow = RequestReader(5), RequestReader(4)
    assert [reader.feed(get()) is None for reader in (wide, narrow)] == [False, False]
    for _ in range(2):
        taken = wide.feed(post)
        assert taken is not None
        assert taken.body == b"abcde"
    with pytest.raises(MalformedRequest):
        narrow.feed(post)


def test_the_first_head_of_a_connection_pushes_out_no_other() -> None:
    """Thousands of websockets come, each with a head of its own that never comes again."""
    before = _remembered_head.cache_info()
    for number in range(10):
        assert RequestReader(0).feed(get(line=b"GET /ws?%d HTTP/1.1" % number)) is not None
    assert _remembered_head.cache_info() == before


# Heads as clients send them, with the names and values of each.
PLAIN: dict[str, bytes] = {
    "next to nothing": get(),
    "a websocket of Chromium": get(
        b"Connection: Upgrade",
        b"Pragma: no-cache",
        b"Cache-Control: no-cache",
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0",
        b"Upgrade: websocket",
        b"Origin: https://a.example",
        b"Sec-WebSocket-Version: 13",
        b"Accept-Encoding: gzip, deflate, br, zstd",
        b"Accept-Language: en-US,en;q=0.9",
        b"Cookie: session=0123456789abcdef; theme=dark",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        line=b"GET /ws?conn_id=6ad3b3f6-bb1e-4c3d-a1b0-f2f6e1a1a001 HTTP/1.1",
    ),
    "a websocket of Firefox": get(
        b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"DNT: 1", b"Sec-Fetch-Dest: empty"
    ),
    "a websocket in small letters": get(
        b"connection: upgrade", b"upgrade: WebSocket", host=b"host: a.example:8000\r\n"
    ),
    "a poll for JSONP": get(
        b"Accept: */*", b"Referer: https://a.example/?b#c", line=b"GET /p?cb=a%5B0%5D&t=1 HTTP/1.1"
    ),
    "a call of a backend": get(
        b"Accept-Encoding: identity",
        b"Content-Type: application/json",
        b"x-channelstream-secret: abc.def-ghi_jkl",
        b"Content-Length: 1000",
        line=b"POST /message HTTP/1.1",
    ),
    "an edit": get(b"Content-Length: 0", line=b"PATCH /message HTTP/1.1"),
    "a deletion": get(b"Content-Length: 0000000002", line=b"DELETE /message HTTP/1.1"),
    "a preflight": get(b"Access-Control-Request-Headers: content-type,x-a", line=b"OPTIONS /connect HTTP/1.1"),
    "a look of a proxy": get(b"X-Forwarded-For: 1.2.3.4, ::1", b"Connection: close", line=b"HEAD /healthz HTTP/1.1"),
    "closed in other words": get(b"Connection: \tkeep-alive ,\tCLOSE,"),
    "not closed": get(b"Connection: closed, clos e,, xclose"),
    "no value": get(b"Accept:", b"Connection: \t", b"Cookie:  ", b"X-A: \ta\t b \t"),
    "a name of 64 bytes": get(b"X" * 64 + b": a"),
    "as many as may be": get(*[b"X-%d: a" % number for number in range(MAX_HEADERS - 1)]),
    "all that a target may hold": get(line=b"GET /!\"$&'()*+,-./09:;<=>@AZ[\\]^_`az{|}~?%??/ HTTP/1.1"),
    "a port of five digits": get(host=b"HOST:1.2.3.4:65535\r\n"),
}

NOT_PLAIN: dict[str, bytes] = {
    "HTTP/1.0": get(line=b"GET / HTTP/1.0"),
    "another method": get(line=b"FROB / HTTP/1.1"),
    "a longer method": get(line=b"GETS / HTTP/1.1"),
    "CONNECT": get(line=b"CONNECT /a HTTP/1.1"),
    "a path to decode": get(line=b"GET /a%20b HTTP/1.1"),
    "an absolute target": get(line=b"GET http://a.example/ HTTP/1.1"),
    "an asterisk": get(line=b"OPTIONS * HTTP/1.1"),
    "an IPv6 host": get(host=b"Host: [::1]:8000\r\n"),
    "an empty host": get(host=b"Host:\r\n"),
    "a host with an empty port": get(host=b"Host: a:\r\n"),
    "a host with an underscore": get(host=b"Host: a_b\r\n"),
    "a name with an underscore": get(b"X_A: 1"),
    "a name with another character": get(b"X!: 1"),
    "a name of 65 bytes": get(b"X" * 65 + b": a"),
    "Proxy": get(b"PROXY: a"),
    "a value that is not ASCII": get(b"X: \xe4"),
    "a header twice": get(b"Cookie: a=1", b"cookie: b=2"),
    "an unknown header twice": get(b"X-A: 1", b"x-a: 1"),
    "a coding": CHUNKED,
    "an expectation": get(b"Expect: 100-continue"),
    "another upgrade": get(b"Upgrade: h2c"),
    "two upgrades": get(b"Upgrade: websocket, h2c"),
    "a byte behind": get() + b"\r",
    "another head behind": get() + get(),
    "an empty line in front": b"\r\n" + get(),
    "nothing": b"",
}


def assert_same_where_plain(raw: bytes) -> None:
    """What is plain is sound too, to llhttp as well, and means the same."""
    meaning = plain_head(raw)
    assert meaning is None or meaning == _sound_head_in_python(raw)


def test_plain_heads_are_read_in_c_wherever_there_is_a_compiler() -> None:
    assert plain_head(get()) is not None or shutil.which("cc") is None


@pytest.mark.parametrize("sound", [_sound_head, _sound_head_in_python], ids=["the one in use", "in Python"])
@pytest.mark.parametrize("case", PLAIN)
def test_a_plain_head_is_sound(sound: Callable[[bytes], _Meaning | None], case: str) -> None:
    assert sound(PLAIN[case]) is not None


@pytest.mark.parametrize("case", PLAIN)
def test_a_plain_head_means_the_same_in_c(case: str) -> None:
    meaning = plain_head(PLAIN[case])
    assert (meaning is None) is (plain_head(get()) is None)
    assert_same_where_plain(PLAIN[case])


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_rest(case: str) -> None:
    assert plain_head(NOT_PLAIN[case]) is None


@pytest.mark.parametrize("case", MALFORMED)
def test_no_malformed_head_is_plain(case: str) -> None:
    """Some heads here are sound and what follows is not, so each is held against the other way."""
    data = MALFORMED[case][1]
    for end in range(len(data) + 1):
        if end == len(data) or data.endswith(b"\r\n\r\n", 0, end):
            assert_same_where_plain(data[:end])


@pytest.mark.parametrize("case", PLAIN)
def test_a_head_is_plain_when_all_of_it_is_there(case: str) -> None:
    assert not any(plain_head(PLAIN[case][:end]) for end in range(len(PLAIN[case])))


def test_a_head_in_c_is_bytes() -> None:
    if plain_head(get()) is not None:
        with pytest.raises(TypeError):
            plain_head("GET / HTTP/1.1")  # type: ignore[arg-type]


NAMES = st.sampled_from(
    [
        *(b"Host", b"Content-Length", b"Content-Type", b"Connection", b"Upgrade", b"Transfer-Encoding", b"Expect"),
        *(b"Proxy", b"Proxy-Connection", b"TE", b"Trailer", b"Keep-Alive", b"HTTP2-Settings", b"Cookie", b"X-A"),
        *(b"Sec-WebSocket-Key", b"content-length", b"CONNECTION", b"X-", b"-", b"1", b"Content--Length"),
    ]
)
VALUES = st.sampled_from(
    [
        *(b"", b"a", b"a.example", b"a:80", b"a:", b"a:123456", b":80", b"3", b"0", b"9999999999", b"99999999999"),
        *(
            b"3, 3",
            b"+3",
            b"websocket",
            b"WebSocket",
            b"h2c",
            b"close",
            b"keep-alive, Upgrade",
            b"Close ,a",
            b"chunked",
        ),
        *(b"a, b", b",", b"\t", b"a\tb", b"100-continue", b"\x7f", b"\x00", b"\xe4", b"a\r\n b", b"a\nb: c"),
    ]
) | st.binary(max_size=6)
BLANKS = st.sampled_from([b"", b" ", b"\t", b" \t "])
LINES = st.builds(
    lambda *parts: b"".join(parts) + b"\r\n", NAMES, st.just(b":"), BLANKS, VALUES, BLANKS
)  # fmt: skip
TARGETS = st.sampled_from(
    [b"/", b"/a?b", b"//a", b"/a%20", b"/?%", b"/?#", b"*", b"", b"/\x7f", b"http://a/"]
) | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=6).map(lambda text: b"/" + text.encode())
METHODS = st.sampled_from(
    [b"GET", b"POST", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"PUT", b"get", b"CONNECT", b"PRI"]
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/1.11", b"http/1.1"])
HEADS = st.builds(
    lambda method, target, version, host, lines: get(
        line=b" ".join((method, target, version)), host=host + b"".join(lines)
    ),
    METHODS,
    TARGETS,
    VERSIONS,
    st.sampled_from([HOST, b"host:a\r\n", b""]),
    st.lists(LINES, max_size=5),
)


@settings(max_examples=1000)
@given(HEADS)
def test_what_is_plain_is_sound_and_means_the_same(raw: bytes) -> None:
    assert_same_where_plain(raw)


@settings(max_examples=1000)
@given(st.sampled_from([*PLAIN.values()]), st.data())
def test_a_plain_head_with_a_byte_more_less_or_other(raw: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(raw)))
    instead = data.draw(st.binary(max_size=2) | st.sampled_from([b"\r\n", b"\n", b" ", b":", b",", b"_"]))
    assert_same_where_plain(raw[:at] + instead + raw[at + data.draw(st.integers(0, 2)) :])
