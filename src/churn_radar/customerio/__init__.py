"""The Customer.io App API: who is this customer?"""
