"""What tools/benchmark.py measures, a part of the page docs/performance.md a module.

Each part yields comparisons whose two sides ran alternately in this process, so
that a busy machine slows both, and a ratio is of two neighbours in time.
"""
