"""The starter CLIP: pictures and words of furniture in one space, trained here (docs/clip.md)."""
