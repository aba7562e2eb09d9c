"""What a person sees: of a run while it goes on, and of any output folder by `python -m pyexp`."""
