"""A biased view is a filter: its grammar, its biases, its layout in files, and `load_dataset("synthfair", view)`."""
