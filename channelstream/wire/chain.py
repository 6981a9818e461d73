"""The steps of a call that are sent in one go: what a step takes from those before it. Pure.

A router that carries out the steps one by one fills them in itself; a shard does it for those that came as one `Chain`.
Both do it here, so that it makes no difference where the steps of a call are owned.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from channelstream.wire.messages import ConnectionState, EnterUser, Join, OpenConnection, Result, UserState

Step = OpenConnection | EnterUser | Join


def filled(step: Step, results: Iterable[Result]) -> Step:
    """A step with what the `results` of earlier ones say of its connection and its user."""
    if isinstance(step, OpenConnection):
        return step
    known: dict[str, object] = {}
    for result in results:
        if isinstance(result, ConnectionState):
            known["route"], known["attachment"] = result.route, result.attachment
            known["detached_for_s"] = result.detached_for_s
            if isinstance(step, Join):
                known["version"] = result.version
        elif isinstance(result, UserState) and isinstance(step, Join):
            known["public"] = result.public
    return replace(step, **known) if known else step
