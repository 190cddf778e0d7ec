"""One label a protein whose classes have a hierarchy: answers at a level of it, and scores at every level."""
