"""What is particular to a kind of task; the flow that they share is not here."""
