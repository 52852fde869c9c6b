"""One module per peer: how it builds a workload and in which ways it runs it."""
