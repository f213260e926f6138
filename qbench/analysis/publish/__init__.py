"""What a stranger would miss in a report."""
