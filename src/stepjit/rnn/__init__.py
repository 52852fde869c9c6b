"""Recurrent networks: cells, what wraps them, and the loops over time."""
