"""The disk cache of compiled steps, as people look into it: what is in it, what it cost, why a step was not found."""
