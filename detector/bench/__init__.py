"""What this machine can, measured."""
