"""An OpenAI-compatible server of one model, whose visual tokens a recipe leaves out: `vtc serve`.

It is a small application of its own. The server of transformers loads what a request names, reads addresses and files
of the machine that it runs on, counts the tokens of the prompt as if nothing was left out, and imports `openai` before
anything else; its modules are no interface that transformers keeps from version to version.
"""
