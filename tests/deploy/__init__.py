"""Tests of what is shipped beside the package: container files, rules and the dashboard."""
