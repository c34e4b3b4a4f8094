"""What runs cost: dated list prices times requests counted by formula. Nothing here talks to AWS.

`prices` reads the price file, `counts` says what one run of a shape asks of AWS, `bill` makes dollars of it, `peers` does
the same sum for others.
"""
