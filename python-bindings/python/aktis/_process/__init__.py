"""What runs in processes that the session starts: the zygote, workers, and the actors inside them."""
