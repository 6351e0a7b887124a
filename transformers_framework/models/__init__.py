"""Configs, tokenizers and models: what transformers has, loaded with care and sharing one backbone."""
