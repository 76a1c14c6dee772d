"""Contract tests that any optimizer, policy, store or engine inherits."""
