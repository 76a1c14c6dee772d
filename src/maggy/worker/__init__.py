"""What runs where the training runs: reporter, runner, client."""
