"""The benchmarks of `python dev.py bench`. Each result is a ratio of two sides that take turns on the same machine."""
