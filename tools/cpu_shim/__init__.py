"""Lets ComfyUI load this folder; the work is done by prestartup_script.py."""

NODE_CLASS_MAPPINGS: dict[str, type] = {}
