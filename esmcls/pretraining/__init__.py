"""An encoder of one's own."""
