"""The same as `stepjit.python.client.timeline`."""

from __future__ import annotations

from stepjit.python.client.timeline import AllocationMaximum, ChromeTrace, StepStatsAnalysis, Timeline

__all__ = ["AllocationMaximum", "ChromeTrace", "StepStatsAnalysis", "Timeline"]
