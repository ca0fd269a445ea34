"""What gigaqc costs: one file a question, each a ratio within one run; `python -m benchmarks`."""
