"""The Falcon resources: parse, call the service, answer. A few lines each; the rules are elsewhere."""

from __future__ import annotations

import falcon
import msgspec

from channelstream import __version__
from channelstream.clock import timestamp
from channelstream.router import schemas
from channelstream.router.auth import body_of
from channelstream.router.http_errors import JSON
from channelstream.router.openapi import document
from channelstream.router.service import Service
from channelstream.status import all_ready
from channelstream.wire.messages import ProcessStatus


class _Resource:
    """A resource of the service. `guard`: what a caller needs, see `auth.Gate`. `pages`: whether scripts of pages from
    elsewhere may call it, see `app.Pages`."""

    guard = "signature"
    pages = False

    def __init__(self, service: Service) -> None:
        self._service = service


def _json(resp: falcon.Response, body: bytes) -> None:
    resp.content_type = JSON
    resp.data = body


class Call(_Resource):
    """A call that is told all by the body of a POST."""

    def answer(self, body: bytes) -> bytes:
        """The answer's JSON. Raises `CallerError`."""
        raise NotImplementedError

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        _json(resp, self.answer(body_of(req.env)))


class Connect(Call):
    """POST /connect."""

    def answer(self, body: bytes) -> bytes:
        return self._service.connect(schemas.parse_connect(body))


class Subscribe(_Resource):
    """POST /subscribe."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        _json(resp, self._service.subscribe(schemas.parse_subscribe(body_of(req.env), req.get_param("conn_id"))))


class Unsubscribe(_Resource):
    """POST /unsubscribe."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        _json(resp, self._service.unsubscribe(schemas.parse_unsubscribe(body_of(req.env), req.get_param("conn_id"))))


class Messages(Call):
    """POST /messages."""

    def answer(self, body: bytes) -> bytes:
        return self._service.message(body)


class Message(Messages):
    """POST, PATCH and DELETE /message."""

    def on_patch(self, req: falcon.Request, resp: falcon.Response) -> None:
        _json(resp, self._service.edit(body_of(req.env)))

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        _json(resp, self._service.delete(body_of(req.env)))


class UserState(Call):
    """POST /user_state."""

    def answer(self, body: bytes) -> bytes:
        return self._service.user_state(schemas.parse_user_state(body))


class ChannelConfig(Call):
    """POST /channel_config."""

    def answer(self, body: bytes) -> bytes:
        return self._service.channel_config(schemas.parse_channel_config(body))


class OpenApi:
    """GET /openapi.json: what the API is, for tools."""

    guard = "signature"

    def __init__(self, http_scheme: str) -> None:
        self._http_scheme = http_scheme

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _json(resp, msgspec.json.encode(document(__version__, self._public_url(req))))

    def _public_url(self, req: falcon.Request) -> str:
        """Where the calls are, as seen from the outside of a proxy. A reference without a scheme is to wherever the
        document was found; where clients use https, it says so even to a tool that came in the clear."""
        prefix: str = req.env["SCRIPT_NAME"]
        return f"https://{req.netloc}{prefix}" if self._http_scheme == "https" else prefix or "/"

    on_head = on_get


class Info(Call):
    """POST /info."""

    def answer(self, body: bytes) -> bytes:
        return self._service.info(schemas.parse_info(body))


class Admin(_Resource):
    """GET and POST /admin/admin.json."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _json(resp, self._service.admin())

    on_head = on_get
    on_post = on_get


class Disconnect(_Resource):
    """GET and POST /disconnect: for whoever knows the `conn_id`."""

    guard = "open"
    pages = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = schemas.parse_disconnect(b"", req.get_param("conn_id"))
        _json(resp, b"true" if self._service.disconnect(body.conn_id) else b"false")

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = schemas.parse_disconnect(body_of(req.env), req.get_param("conn_id"))
        _json(resp, b"true" if self._service.disconnect(body.conn_id) else b"false")


class Ready(_Resource):
    """GET /readyz: 200 once every process of the group has reported in, 503 while one is missing."""

    guard = "address"

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        statuses = self._service.statuses()
        ready = all_ready(statuses)
        if not ready:
            resp.status = falcon.HTTP_503
        waiting_for = [f"{status.role}-{status.index}" for status in statuses if not status.ready]
        _json(resp, msgspec.json.encode({"ready": ready, "waiting_for": waiting_for}))

    on_head = on_get


class Health(_Resource):
    """GET /healthz: how each process is. 200 as long as this one can say so."""

    guard = "address"

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        statuses = self._service.statuses()
        shown = {"version": __version__, "ready": all_ready(statuses), "processes": [_shown(one) for one in statuses]}
        _json(resp, msgspec.json.encode(shown))

    on_head = on_get


def _shown(status: ProcessStatus) -> dict[str, object]:
    return {
        "process": f"{status.role}-{status.index}",
        "role": status.role,
        "index": status.index,
        "pid": status.pid or None,
        "since": timestamp(status.since) if status.pid else None,
        "ready": status.ready,
        "connections": status.connections,
        "channels": status.channels,
        "queue_bytes": status.queue_bytes,
        "version": status.version or None,
        "counters": status.counters,
    }
