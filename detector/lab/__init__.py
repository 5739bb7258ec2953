"""Data files, simulated faults, event measures, the demo and the benchmarks."""
