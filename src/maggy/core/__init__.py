"""The pure heart: a state machine of events and commands, and folds over events."""
