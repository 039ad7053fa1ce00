"""LoRA with Hugging Face's peft: the adapters of a pretrained network travel, the network does not."""
