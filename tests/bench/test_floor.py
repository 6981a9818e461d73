"""The floor, for real: it is built in a moment."""

import pytest

from bench.crowd import Crowd
from bench.floor import Floor
from bench.progress import Progress
from bench.publisher import Order
from bench.stand import Stand
from bench.systems import filled

pytestmark = pytest.mark.skipif(Floor().missing() is not None, reason="no C compiler")


@pytest.mark.parametrize("wire", [100, 127, 300, 5000])
def test_each_client_gets_each_message_of_the_length_that_was_asked_for(wire):
    with Stand(Floor(), 5, Progress()) as stand:
        turn = stand.run(Order(20, stand.fit(wire), rate=500))
        assert (turn.messages, turn.deliveries, turn.lost) == (20, 100, 0)
        assert turn.bytes == 100 * wire
        assert sum(turn.cpu_s.values()) > 0


def test_a_client_that_leaves_is_forgotten():
    with Floor() as floor:
        sender = floor.sender()
        with Crowd() as crowd, Crowd() as others:
            others.open(floor.address, floor.requests(3))
            crowd.open(floor.address, floor.requests(2))
            others.close()
            for _ in range(3):
                sender.send([filled(50, 1)])
            assert crowd.receive(5, 6)
