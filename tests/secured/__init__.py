"""A broker with users, certificates and permissions."""
