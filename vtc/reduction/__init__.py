"""From a call of the stock model to the same call with a shorter prompt."""
