"""How each family of captioning models is asked and decoded. Knows neither the registry nor the page."""
