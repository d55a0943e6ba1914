"""An HTTP server with OpenAI's embeddings interface, the compression dial, and a page to try it."""
