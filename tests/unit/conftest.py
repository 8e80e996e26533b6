"""What the tests of pure functions share."""

from hypothesis import settings

# Failing examples are not kept in the checkout, which may be read-only for the user who runs the tests.
settings.register_profile("vmharness", database=None)
settings.load_profile("vmharness")
