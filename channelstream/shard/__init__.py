"""The shard: owns channels, users and connections. No gevent, and everything but `loop` and `serve` is pure."""
