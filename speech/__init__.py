"""Speech: codec language models and their alignment (SpeechAlign)."""
