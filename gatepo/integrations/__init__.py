"""Gates in the trainers of others. Each file needs the package it is named after; nothing else of gatepo imports them."""
