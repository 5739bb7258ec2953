"""What the daemon shows over HTTP. Loaded by `detector run` alone."""
