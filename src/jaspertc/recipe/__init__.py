"""A run as data: texts, teachers, student and stages, and what they would cost."""
