"""Texts in files, read in constant memory, and vectors written so that a killed run can go on."""
