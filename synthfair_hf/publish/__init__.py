"""What people look at: pages printed from records, and releases on the Hub. Opens no data and knows no generator."""
