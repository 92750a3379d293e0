"""The commands by what they are about; cli.py names them."""
