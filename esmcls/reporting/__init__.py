"""What every report shares."""
