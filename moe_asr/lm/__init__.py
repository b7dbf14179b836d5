"""n-gram language models: training, pruning, ARPA files, scoring."""
