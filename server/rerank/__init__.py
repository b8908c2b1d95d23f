"""What happens to scores after they are made."""
