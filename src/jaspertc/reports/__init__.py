"""Tables and figures as one HTML page and as Markdown, and where their numbers are from."""
