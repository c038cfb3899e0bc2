"""Tasks: versioned protocols as data, and the runs that follow them."""
