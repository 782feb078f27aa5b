"""Language models that improve themselves: reasoning loops, and what measures them."""
