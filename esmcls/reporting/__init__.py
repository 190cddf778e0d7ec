"""The frame of a report, the look of its figures, and every small formatter."""
