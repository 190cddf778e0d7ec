"""Work on a Ray cluster: sequences embedded, answers given and heads fitted by actors on any number of machines."""
