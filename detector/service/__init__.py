"""The daemon around the pipeline: loop, metrics, HTTP, logs."""
