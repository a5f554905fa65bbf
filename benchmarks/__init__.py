"""What `python dev.py bench` measures: each figure is a ratio of two sides that took turns on one machine."""
