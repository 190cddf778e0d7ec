"""The encoder itself, trained end to end."""
