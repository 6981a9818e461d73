"""What the processes of a group say to each other: the messages, and how they become bytes."""
