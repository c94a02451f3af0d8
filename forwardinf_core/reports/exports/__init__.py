"""Taking a review home: the cleaned rows in the shape they came in, tables for other tools, and patches."""
