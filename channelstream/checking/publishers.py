"""Publishers as backends are: one message after the other, each repeated with the same uuid until it is answered."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from channelstream.checking.api import Api
from channelstream.checking.history import Attempt, History, Outcome
from channelstream.clock import monotonic
from channelstream.ids import TopicKey, name_of

AGAIN_AFTER_S: Final = (0.05, 0.2)
"""A publisher that got no answer repeats its message after a moment in this range."""

TEXT: Final = "a sentence as people write them, so that a message has about the size that it has in a chat"


def message_for(publisher: str, number: int, topic: TopicKey, message_uuid: str) -> dict[str, object]:
    """The body of one message, for a channel or for one user."""
    body: dict[str, object] = {
        "user": publisher,
        "uuid": message_uuid,
        "message": {"publisher": publisher, "number": number, "text": TEXT},
    }
    if topic.startswith("c/"):
        return body | {"channel": name_of(topic)}
    return body | {"pm_users": [name_of(topic)]}


class Publisher(threading.Thread):
    """Publishes to topics in turn, so many messages a second at most, until told to finish. `give_up` ends the
    repetitions of its last message too."""

    def __init__(
        self,
        name: str,
        api: Api,
        topics: Sequence[TopicKey],
        rate: float,
        history: History,
        seed: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._api: Final = api
        self._topics: Final = topics
        self._period_s: Final = 1.0 / rate
        self._history: Final = history
        self._chance: Final = random.Random(f"{seed} {name}")
        self._clock: Final = clock
        self._finishing: Final = threading.Event()
        self._giving_up: Final = threading.Event()

    def finish(self) -> None:
        """Begin no other message."""
        self._finishing.set()

    def give_up(self) -> None:
        """Do not repeat any more."""
        self._finishing.set()
        self._giving_up.set()

    def run(self) -> None:
        """Message after message. One that takes long delays those behind it, and they do not catch up."""
        number = 0
        due = self._clock()
        while not self._finishing.wait(max(due - self._clock(), 0.0)):
            number += 1
            self.publish(number, self._topics[(number - 1) % len(self._topics)])
            due = max(due + self._period_s, self._clock())
        self._api.close()

    def publish(self, number: int, topic: TopicKey) -> Outcome:
        """One message, until it is taken or refused."""
        message_uuid = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        body = [message_for(self.name, number, topic, message_uuid)]
        while True:
            asked_at = self._clock()
            reply = self._api.call("/message", body)
            attempt = Attempt(
                self.name, number, message_uuid, topic, asked_at, self._clock(), reply.status, reply.reason
            )
            self._history.add(attempt)
            if attempt.outcome is not Outcome.UNKNOWN or self._giving_up.wait(self._chance.uniform(*AGAIN_AFTER_S)):
                return attempt.outcome
