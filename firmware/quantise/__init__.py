"""From a float model to integers, and the file that keeps them."""
