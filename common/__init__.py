"""The engine: self-improvement loops over five stages. It knows no domain and imports none."""
