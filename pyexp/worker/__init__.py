"""What runs in a cell's process: how it gets ready, the life of a cell, and its end."""
