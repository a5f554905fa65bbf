"""Makes ComfyUI load this folder. The work is done in prestartup_script.py."""

NODE_CLASS_MAPPINGS: dict[str, type] = {}
