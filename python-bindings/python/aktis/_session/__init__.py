"""A session from the side of the program that begins it: arguments, beginning and end, what it says of itself."""
