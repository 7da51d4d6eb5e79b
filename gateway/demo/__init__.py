"""Two small applications behind the gateway, and the recipe by which an application knows its visitor.

Nouns: an application (`orders`, `classroom`), its visitor, the assertion. They are written as a customer's application
is: they know the gateway's public contract, and nothing of its inside.
"""
