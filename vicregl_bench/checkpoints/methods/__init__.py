"""One file a method: where its weights come from, how its files look, what no tensor tells.

Each ends in a `READER`. `marks` has what readers look for, `join` puts a split backbone together,
`published` the papers' numbers.
"""
