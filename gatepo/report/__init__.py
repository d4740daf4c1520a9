"""Reading runs back: their figures and tables. Needs nothing but the files in a run's folder."""
