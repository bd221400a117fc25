"""Personal data in a text: what it looks like, and how it comes out of right-to-left lines."""
