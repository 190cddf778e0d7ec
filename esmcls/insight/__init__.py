"""For people's eyes: why a model says what it says, and the map of all proteins."""
