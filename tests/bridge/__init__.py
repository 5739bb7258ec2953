"""Tests of the bridge: what it tells whom, and that it loses and repeats nothing."""
