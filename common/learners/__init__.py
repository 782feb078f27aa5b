"""The learn stage: imitation (:mod:`.sft`), preferences (:mod:`.dpo`), reward models."""
