"""Benchmarks of stepjit beside TensorFlow, JAX, numba, numpy and C: `python -m benchmarks`, see README.md."""
