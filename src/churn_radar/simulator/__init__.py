"""Stand-ins for Customer.io and Mavera that follow their public contracts, for the demo and the tests."""
