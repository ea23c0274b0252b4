"""What the pages share: the shell around them, forms from configs, pictures and curves."""
