"""The run folder and all that is in it."""
