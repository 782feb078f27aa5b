"""SceneCraft: a sentence becomes a Blender scene, is looked at, refined, and teaches a library."""
