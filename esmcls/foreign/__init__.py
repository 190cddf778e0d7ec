"""Of others: files of their formats, checked before their libraries see them, and what their packages register."""
