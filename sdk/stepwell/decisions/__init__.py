"""What should happen, decided without touching anything: values in, values out."""
