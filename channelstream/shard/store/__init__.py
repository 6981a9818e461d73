"""Where a shard keeps what must outlive it."""
