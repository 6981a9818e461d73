"""channelstream 0.7.1, the last version before this one, with its own signed API."""
