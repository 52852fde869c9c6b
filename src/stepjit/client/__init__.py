"""Tools for what sessions tell of their steps: `timeline`."""
