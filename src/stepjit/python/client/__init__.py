"""Tools around sessions: `timeline` for what they tell of their steps, `device_lib` for their devices."""
