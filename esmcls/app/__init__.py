"""Models asked in a web browser, on this machine."""
