"""Programs beside the daemon: they publish, follow, look and repair."""
