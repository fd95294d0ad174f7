"""A page on which people say which of two images is the better one, and the file that keeps what they said."""
