"""What crosses the network: messages, frames, and the proof of the key."""
