"""The REST app: routes, middleware, handlers. Served by the routers, and mounted in the edges on the public port."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import falcon

from channelstream.clock import Clock
from channelstream.config import Config
from channelstream.cors import Cors
from channelstream.errors import ForeignPage
from channelstream.http_reader import Request
from channelstream.ids import request_id_of
from channelstream.router import http_errors, resources
from channelstream.router.auth import SIGNATURE, Gate
from channelstream.router.service import Service

_LINES: Final = f"content-type: {http_errors.JSON}\r\nx-request-id: %b\r\n".encode()


class RequestId:
    """Every answer carries an X-Request-Id: the caller's, or ours."""

    def __init__(self, new_uuid: Callable[[], str]) -> None:
        self._new_uuid: Final = new_uuid

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool) -> None:
        """Called by Falcon for every answer, errors too."""
        resp.set_header("X-Request-Id", self.of(req.env))

    def of(self, headers: Mapping[str, Any]) -> str:
        """The one for a request with these headers, by their WSGI names."""
        return request_id_of(headers.get("HTTP_X_REQUEST_ID")) or self._new_uuid()


class Pages:
    """Pages from elsewhere may read the answers of what clients call: resources whose attribute `pages` is True."""

    def __init__(self, allow_cors: Sequence[str]) -> None:
        self._cors: Final = Cors(allow_cors)

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: object, params: object) -> None:
        """Called by Falcon once the resource is found. Raises `ForeignPage`."""
        if not getattr(resource, "pages", False) or req.method == "OPTIONS":
            return
        origin = req.get_header("Origin")
        if self._cors.is_foreign(origin, req.get_header("Host")):
            raise ForeignPage(str(origin))

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool) -> None:
        """Called by Falcon for every answer, errors too."""
        if not getattr(resource, "pages", False):
            return
        origin = req.get_header("Origin")
        if req.method == "OPTIONS":
            headers = self._cors.preflight(origin, resp.get_header("Allow") or "")
        else:
            headers = self._cors.headers(origin)
        resp.set_headers(headers)


class Methods:
    """A method that a resource does not have is 405 before anybody is asked who they are.

    Falcon's own answer comes after the `Gate`, and takes a method that it has never heard of for a bad request. It also
    finds a resource behind any number of slashes, where a proxy's rules for the path would not.
    """

    def __init__(self) -> None:
        # By the class of the resource. PERF: every request asks.
        self._known: Final[dict[type, list[str]]] = {}

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: object, params: object) -> None:
        """Called by Falcon once the resource is found."""
        if req.path.startswith("//"):
            raise falcon.HTTPNotFound
        if req.method not in (allowed := self._of(resource)):
            raise falcon.HTTPMethodNotAllowed(allowed)

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool) -> None:
        """Called by Falcon for every answer. Its own one to OPTIONS names all methods but that."""
        if req.method == "OPTIONS" and resource is not None and succeeded:
            resp.set_header("Allow", ", ".join(self._of(resource)))

    def _of(self, resource: object) -> list[str]:
        kind = type(resource)
        if kind not in self._known:
            has = {method for method in falcon.HTTP_METHODS if hasattr(kind, f"on_{method.lower()}")}
            self._known[kind] = sorted(has | {"OPTIONS"})
        return self._known[kind]


class Api(falcon.App[Any, Any]):
    """The app.

    PERF: a POST of which all is in its body, and that is signed in its head, is what comes by the thousand. It has the
    same checks and the same call as ever, but is spared the environ, and Falcon's request, answer and middleware, which
    cost more than to publish a message. Whatever goes wrong with it is told by Falcon, as everything is.
    """

    def __init__(self, gate: Gate, request_id: RequestId, pages: Pages) -> None:
        super().__init__(media_type=http_errors.JSON, middleware=[request_id, pages, Methods(), gate])
        self._gate: Final = gate
        self._request_id: Final = request_id
        self._calls: dict[str, resources.Call] = {}
        """By path."""

    def add_route(self, uri_template: str, resource: object, **options: Any) -> None:
        """See `falcon.App`."""
        super().add_route(uri_template, resource, **options)
        if isinstance(resource, resources.Call):
            self._calls[uri_template] = resource

    def quick(self, request: Request, address: str) -> tuple[bytes, bytes] | None:
        """A `serving.Quick`. Raises `CallerError`."""
        call = self._calls.get(request.path)
        headers = request.headers
        if call is None or request.method != "POST" or not headers.get(SIGNATURE) or "HTTP_X_SCRIPT_NAME" in headers:
            return None
        self._gate.check_https(address, "http", headers)
        self._gate.check_address(address, headers)
        self._gate.check_signature("POST", request.path, headers, request.body)
        answer = call.answer(request.body)
        return _LINES % self._request_id.of(headers).encode(), answer


def make_app(service: Service, config: Config, clock: Clock, new_uuid: Callable[[], str], api: bool = True) -> Api:
    """The app. `api` False leaves the backends' calls and their description out: the public port where `public_api` is
    off."""
    app = Api(Gate(config, clock, service.claim), RequestId(new_uuid), Pages(config.allow_cors))
    http_errors.install(app)
    routes: dict[str, object] = {
        "/admin/admin.json": resources.Admin(service),
        "/disconnect": resources.Disconnect(service),
        "/healthz": resources.Health(service),
        "/readyz": resources.Ready(service),
    }
    if api:
        routes |= {
            "/connect": resources.Connect(service),
            "/subscribe": resources.Subscribe(service),
            "/unsubscribe": resources.Unsubscribe(service),
            "/message": resources.Message(service),
            "/messages": resources.Messages(service),
            "/user_state": resources.UserState(service),
            "/channel_config": resources.ChannelConfig(service),
            "/info": resources.Info(service),
            "/openapi.json": resources.OpenApi(config.http_scheme),
        }
    for path, resource in routes.items():
        app.add_route(path, resource)
    return app
