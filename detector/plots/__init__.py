"""Pictures. Matplotlib is imported in this room alone."""
