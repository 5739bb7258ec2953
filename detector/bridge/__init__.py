"""Alerts to where people are: Alertmanager, webhooks, commands. A process beside the daemon that
follows the alert topic, with a follower, a thread and a position of its own for each target: one
that is down holds up no other."""
