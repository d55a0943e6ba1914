"""What a recipe would cost on machines that are not there yet."""
