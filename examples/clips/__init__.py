"""Long videos become short clips: scenes are found, cut out and kept, and the broken ones are told apart."""
