"""The REST app: routes, middleware, handlers. Served by the routers, and mounted in the edges on the public port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import falcon

from channelstream.clock import Clock
from channelstream.config import Config
from channelstream.ids import request_id_of
from channelstream.router import http_errors, resources
from channelstream.router.auth import Gate
from channelstream.router.service import Service


class RequestId:
    """Every answer carries an X-Request-Id: the caller's, or ours."""

    def __init__(self, new_uuid: Callable[[], str]) -> None:
        self._new_uuid: Final = new_uuid

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool) -> None:
        """Called by Falcon for every answer, errors too."""
        resp.set_header("X-Request-Id", request_id_of(req.get_header("X-Request-Id")) or self._new_uuid())


class Methods:
    """A method that a resource does not have is 405 before anybody is asked who they are.

    Falcon's own answer comes after the `Gate`, and takes a method that it has never heard of for a bad request.
    """

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: object, params: object) -> None:
        """Called by Falcon once the resource is found."""
        known = [method for method in falcon.HTTP_METHODS if hasattr(resource, f"on_{method.lower()}")]
        if req.method not in (*known, "OPTIONS"):
            raise falcon.HTTPMethodNotAllowed([*known, "OPTIONS"])


def make_app(
    service: Service, config: Config, clock: Clock, new_uuid: Callable[[], str], api: bool = True
) -> falcon.App[Any, Any]:
    """The app. `api` False leaves the signed calls out: the public port where `public_api` is off."""
    app: falcon.App[Any, Any] = falcon.App(media_type=http_errors.JSON)
    app.add_middleware([RequestId(new_uuid), Methods(), Gate(config, clock, service.claim)])
    http_errors.install(app)
    app.add_route("/disconnect", resources.Disconnect(service))
    app.add_route("/healthz", resources.Health(service))
    app.add_route("/readyz", resources.Ready(service))
    if api:
        app.add_route("/connect", resources.Connect(service))
        app.add_route("/subscribe", resources.Subscribe(service))
        app.add_route("/unsubscribe", resources.Unsubscribe(service))
        app.add_route("/message", resources.Message(service))
        app.add_route("/info", resources.Info(service))
    return app
