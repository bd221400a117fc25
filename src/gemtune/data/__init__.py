"""What a file holds -> rows; what a conversation is."""
