"""Classification of whole pictures, linear on a frozen backbone."""
