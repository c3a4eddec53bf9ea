"""How each family of retrieval models is read: two towers, or one. Knows neither the registry nor the page."""
