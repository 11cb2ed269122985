"""The engine of FlightLLM cores: primitive instructions in, cycles, activity and limits out."""
