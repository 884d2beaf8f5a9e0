"""How other people's systems are spoken to; knows neither sources nor outputs."""
