"""Emoji drawings as a test of pictures: the data, and what a model makes of them."""
