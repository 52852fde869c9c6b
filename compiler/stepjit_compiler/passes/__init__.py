"""The pipeline's passes: pure functions from one frozen form of a step to the next."""
