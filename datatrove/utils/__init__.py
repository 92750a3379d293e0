"""What the steps have in common, where datatrove has it: rules by which a text is split into words."""

from .. import installed as installed
