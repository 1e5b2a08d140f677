"""Label images: the channels made from them, the objects made from channels, and operations on labels themselves."""
