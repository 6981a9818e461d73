"""Who may call: the caller's address, https where it is enforced, and the signature of a request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import falcon

from channelstream.addresses import AddressRules, client_address, client_scheme
from channelstream.clock import Clock
from channelstream.config import Config
from channelstream.errors import AddressRefused, HttpsRequired, SignatureMissing, SignatureRefused
from channelstream.serving import REFUSED
from channelstream.signing import Verifier, load_checker

Environ = dict[str, Any]

BODY: Final = "channelstream.body"
"""Where an environ keeps its request's body, once it was read."""

SIGNATURE: Final = "HTTP_X_CHANNELSTREAM_SECRET"
"""The header of a request's signature, by its WSGI name."""

log: Final = logging.getLogger(__name__)


class Gate:
    """A Falcon middleware. What a resource needs is in its attribute `guard`: "open", "address" or "signature"."""

    def __init__(self, config: Config, clock: Clock, claim: Callable[[str, float], bool]) -> None:
        self._trusted: Final = AddressRules(config.trusted_proxies, "trusted_proxies")
        self._allowed: Final = AddressRules(config.allow_posting_from)
        self._enforce_https: Final = config.enforce_https
        self._clock: Final = clock
        self._claim: Final = claim
        self._verifier: Final = Verifier(
            config.secret,
            config.signature_scope,
            int(config.signature_max_age) if config.validate_requests else None,
            load_checker(config.signature_checker) if config.signature_checker else None,
        )
        self._warned = False

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Called by Falcon before a resource is looked for. Raises `HttpsRequired`, or what `app.Api.quick` has raised
        for this very request."""
        refused: Exception | None = req.env.get(REFUSED)
        if refused is not None:
            raise refused
        self.check_https(req.env["REMOTE_ADDR"], req.env["wsgi.url_scheme"], req.env)

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: object, params: object) -> None:
        """Called by Falcon once the resource is found. Raises `CallerError`."""
        guard = getattr(resource, "guard", "open")
        if guard == "open" or req.method == "OPTIONS":  # which Falcon answers itself, with the methods alone
            return
        self.check_address(req.env["REMOTE_ADDR"], req.env)
        if guard == "signature":
            self.check_signature(req.method, req.path, req.env, body_of(req.env), req.get_param("secret"))

    # `remote` is the address that the connection comes from, `headers` are those of the request, by their WSGI names.

    def check_https(self, remote: str, scheme: str, headers: Mapping[str, Any]) -> None:
        """Raises `HttpsRequired`. `scheme`: the connection's."""
        if not self._enforce_https:
            return
        if client_scheme(remote, scheme, headers.get("HTTP_X_FORWARDED_PROTO"), self._trusted) != "https":
            raise HttpsRequired

    def check_address(self, remote: str, headers: Mapping[str, Any]) -> None:
        """Raises `AddressRefused`."""
        address = client_address(remote, headers.get("HTTP_X_FORWARDED_FOR"), self._trusted)
        if not self._allowed.allows(address):
            raise AddressRefused(address)

    def check_signature(
        self, method: str, path: str, headers: Mapping[str, Any], body: bytes, parameter: str | None = None
    ) -> None:
        """`parameter`: the signature in the URL, which counts where there is none in the head. Raises `CallerError`."""
        signature = headers.get(SIGNATURE) or parameter
        if not signature:
            raise SignatureMissing
        endpoint = headers.get("HTTP_X_CHANNELSTREAM_ENDPOINT")
        verified = self._verifier.verify(signature, method, path, body, endpoint, self._clock().wall)
        if verified.replay_key is not None and not self._claim(verified.replay_key, verified.replay_for_s):
            raise SignatureRefused("used before", "a signature is taken once: sign each request anew, with a nonce")
        if verified.legacy and not self._warned:
            self._warned = True
            log.warning("a caller signs the word channelstream instead of the path: taken, but any call can be made so")


def body_of(env: Environ) -> bytes:
    """The whole body of a request, which the server has read before."""
    body: bytes | None = env.get(BODY)
    if body is None:
        # The length is always there (the server has taken chunks apart), and PEP 3333 promises no read without one.
        body = env[BODY] = env["wsgi.input"].read(int(env.get("CONTENT_LENGTH") or 0))
    return body
