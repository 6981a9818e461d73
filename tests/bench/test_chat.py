"""Who is on which channel."""

from collections import Counter

import pytest

from bench.chat import UnevenPlaces, channel_names, places


@pytest.mark.parametrize(("clients", "channels", "each"), [(10_000, 5000, 5), (2000, 1000, 5), (20, 10, 5), (6, 3, 1)])
def test_all_channels_have_as_many_clients_and_all_clients_as_many_channels(clients, channels, each):
    found = places(clients, channel_names(channels), each)
    assert len(found) == clients
    assert all(len(set(own)) == each for own in found)
    assert set(Counter(name for own in found for name in own).values()) == {clients * each // channels}


def test_a_client_meets_others_on_each_of_its_channels():
    found = places(1000, channel_names(500), 5)
    together = [own for own in found if set(own) & set(found[0])]
    assert max(len(set(own) & set(found[0])) for own in together if own is not found[0]) < 5
    assert len(together) > 20


@pytest.mark.parametrize(("clients", "channels", "each"), [(3, 2, 1), (10, 7, 5)])
def test_uneven_channels_are_refused(clients, channels, each):
    with pytest.raises(UnevenPlaces):
        places(clients, channel_names(channels), each)
