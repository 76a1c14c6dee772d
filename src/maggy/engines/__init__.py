"""How trials get run: the loop, the server, and one module for each engine."""
