"""From a step of a graph to native code. Imports the runtime only; never the front end."""
