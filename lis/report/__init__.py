"""What a reader sees: figures, the page of one run, the comparison page of a sweep, and the flat numbers."""
