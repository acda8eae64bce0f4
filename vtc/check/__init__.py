"""`vtc check`: does a wrapped checkpoint answer as the stock model would from the same tokens?"""
