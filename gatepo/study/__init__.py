"""A study: claims that were registered before the first run, the runs that they need, and a verdict on each."""
