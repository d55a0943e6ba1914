"""What measures us and is not shipped; imports jaspertc and is never imported by it."""
