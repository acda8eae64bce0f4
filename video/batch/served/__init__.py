"""A batch that is answered by an engine which takes many requests at once: vLLM, or a server."""
