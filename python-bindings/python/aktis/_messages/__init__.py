"""What users are told: of mistakes, of what is missing, and in the place of a repr."""
