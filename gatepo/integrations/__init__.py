"""Gates in the trainers of others; each file needs the package that it is named after, and no other file imports it."""
