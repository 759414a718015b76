"""The benchmarks: contestants measured against each other in one run, with results as ratios."""
