"""Large models whose vectors a student learns."""
