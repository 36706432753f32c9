"""What is measured of models and data: pure statistics, and the records that a night stores of them."""
