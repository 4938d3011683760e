"""What the benchmarks share: servers to measure, loads to measure them with, and /proc."""
