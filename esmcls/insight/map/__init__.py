"""The map: vectors of many proteins laid out in a plane."""
